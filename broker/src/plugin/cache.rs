//! Compiled components on disk, so that a restart compiles nothing.
//!
//! Loading machine code is as dangerous as running any program, so only what this broker wrote is loaded: from its own
//! private folder, under the digest of the component and of the engine's settings, and only when the artefact's own
//! digest still matches. Anything else is compiled anew and written over.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wasmtime::component::Component;

const DIGEST: usize = 32;

/// A folder of compiled components.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// Opens the folder for one version of engine and settings, making it if needed, private to this user.
    pub(super) fn open(folder: &Path, engine: &wasmtime::Engine) -> io::Result<Self> {
        let folder = folder.join(compatibility(engine));
        private_folder(&folder)?;
        Ok(Self { folder })
    }

    /// The compiled form of a component, if it is here and whole.
    pub(super) fn load(&self, engine: &wasmtime::Engine, name: &str) -> Option<Component> {
        let file = fs::read(self.path(name)).ok()?;
        let (digest, artefact) = file.split_at_checked(DIGEST)?;
        if Sha256::digest(artefact)[..] != *digest {
            tracing::warn!(component = name, "a compiled plugin in the cache is damaged and will be compiled anew");
            return None;
        }
        #[expect(unsafe_code, reason = "there is no safe way to load compiled code")]
        // SAFETY: the bytes are an artefact that `Cache::save` wrote for this engine's compatibility hash: the folder is
        // private to this user, and the digest shows that the file is as it was written.
        let loaded = unsafe { Component::deserialize(engine, artefact) };
        loaded.inspect_err(|error| tracing::warn!(component = name, %error, "failed to load a compiled plugin")).ok()
    }

    /// Keeps a compiled component: written aside and renamed, so that a crash leaves no half of it.
    pub(super) fn save(&self, component: &Component, name: &str) -> io::Result<()> {
        let artefact = component.serialize().map_err(io::Error::other)?;
        let aside = self.path(&format!("{name}.{}", std::process::id()));
        let mut file = private_file(&aside)?;
        file.write_all(&Sha256::digest(&artefact))?;
        file.write_all(&artefact)?;
        file.sync_all()?;
        fs::rename(aside, self.path(name))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.cwasm"))
    }
}

/// Names everything that compiled code depends on: the version and settings of the engine and the processor's features.
fn compatibility(engine: &wasmtime::Engine) -> String {
    use std::hash::{Hash, Hasher};

    let mut hasher = std::collections::hash_map::DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

fn private_file(path: &Path) -> io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt;

    fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn private_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;

    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// The name of a component's artefact.
pub(super) fn digest(component: &[u8]) -> String {
    Sha256::digest(component).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artefact_is_loaded_only_while_it_is_as_written() {
        let folder = std::env::temp_dir().join(format!("switchboard-aot-{}", std::process::id()));
        let engine = wasmtime::Engine::default();
        let cache = Cache::open(&folder, &engine).unwrap();
        let component = Component::new(&engine, EMPTY).unwrap();
        assert!(cache.load(&engine, "empty").is_none());
        cache.save(&component, "empty").unwrap();
        assert!(cache.load(&engine, "empty").is_some());
        let path = cache.path("empty");
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(cache.load(&engine, "empty").is_none(), "a flipped bit");
        fs::write(&path, b"short").unwrap();
        assert!(cache.load(&engine, "empty").is_none(), "a torn file");
        fs::remove_dir_all(folder).unwrap();
    }

    /// The smallest component: magic, version 13, layer 1.
    const EMPTY: &[u8] = &[0x00, 0x61, 0x73, 0x6d, 0x0d, 0x00, 0x01, 0x00];
}
