//! Compiled components on disk, so that a restart does not compile again.
//!
//! Loading machine code is as dangerous as running any program. Only what this broker wrote is loaded: from a folder that
//! nobody else can write, by the digest of the component and of the engine's settings, and only under a seal that nobody
//! can make without the key, which lies beside the folder's content and which nobody else can read. Anything else is
//! compiled again and overwritten. The folder is bounded; the file unused longest goes first.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use wasmtime::component::Component;

use crate::private::{private_bytes, private_folder};
use crate::runtime::declared::BOUNDS;
use crate::runtime::machine_code::deserialize;
use switchboard_model::{Clock, Digest};

/// Length of the seal in front of the code: an HMAC-SHA256.
const SEAL: usize = 32;

/// How long files of another engine version are kept: that version may come back, or may run beside this one.
const FOREIGN_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Partial files older than this were abandoned.
const BEGUN_FOR: Duration = Duration::from_secs(60 * 60);

/// A folder of compiled components.
#[derive(Debug)]
pub(crate) struct Cache {
    root: PathBuf,
    folder: PathBuf,
    key: [u8; SEAL],
    most: u64,
    clock: Clock,
}

impl Cache {
    /// Opens the folder for one engine version and settings, creating it with access for this user only. `most` bounds
    /// the bytes of all versions together.
    pub(crate) fn open(root: &Path, engine: &wasmtime::Engine, most: u64, clock: Clock) -> io::Result<Self> {
        private_folder(root)?;
        let key = private_bytes(&root.join("key"), || clock.random())?;
        let cache = Self { root: root.to_owned(), folder: root.join(compatibility(engine)), key, most, clock };
        private_folder(&cache.folder)?;
        cache.make_room(0);
        Ok(cache)
    }

    /// The compiled component, or `None` if it is missing or damaged.
    pub(crate) fn load(&self, engine: &wasmtime::Engine, component: &Digest) -> Option<Component> {
        let path = self.path(component);
        let file = fs::read(&path).ok()?;
        let whole = file.split_at_checked(SEAL).filter(|(seal, code)| {
            // Compares in constant time.
            self.seal(component, code).verify_slice(seal).is_ok()
        });
        let Some((_, code)) = whole else {
            tracing::warn!(%component, "a compiled plugin in the cache is damaged or was not written by this broker; compiling it again");
            return None;
        };
        // The time of last use only guides eviction, so a failure is harmless.
        let _ = fs::File::options().write(true).open(&path).and_then(|file| file.set_modified(self.now()));
        deserialize(engine, code)
            .inspect_err(|error| tracing::warn!(%component, %error, "failed to load a compiled plugin"))
            .ok()
    }

    /// Stores and loads freshly compiled code. The file is written under another name and renamed, so a crash leaves no
    /// partial file behind.
    pub(crate) fn keep(
        &self,
        engine: &wasmtime::Engine,
        component: &Digest,
        code: &[u8],
    ) -> wasmtime::Result<Component> {
        let loaded = deserialize(engine, code)?;
        if let Err(error) = self.save(component, code) {
            tracing::warn!(%error, "failed to cache a compiled plugin; the next start compiles it again");
        }
        Ok(loaded)
    }

    fn save(&self, component: &Digest, code: &[u8]) -> io::Result<()> {
        self.make_room(u64::try_from(code.len()).unwrap_or(u64::MAX));
        private_folder(&self.folder)?;
        let aside = self.folder.join(format!("{component}.{}.part", std::process::id()));
        let mut file = private_file(&aside)?;
        file.write_all(&self.seal(component, code).finalize().into_bytes())?;
        file.write_all(code)?;
        file.sync_all()?;
        fs::rename(aside, self.path(component))
    }

    /// Removes leftovers, and then the files unused longest until there is room for `wanted` bytes.
    fn make_room(&self, wanted: u64) {
        let mut kept = Vec::new();
        let mut bytes = wanted;
        for (path, length, modified) in files(&self.root) {
            let age = self.now().duration_since(modified).unwrap_or_default();
            let ours = path.parent() == Some(&self.folder);
            let begun = path.extension().is_some_and(|extension| extension == "part");
            if begun && age > BEGUN_FOR || !ours && age > FOREIGN_FOR {
                let _ = fs::remove_file(&path);
            } else if !begun {
                bytes = bytes.saturating_add(length);
                kept.push((modified, length, path));
            }
        }
        kept.sort();
        for (_, length, path) in kept {
            if bytes <= self.most {
                break;
            }
            if fs::remove_file(&path).is_ok() {
                bytes = bytes.saturating_sub(length);
            }
        }
    }

    /// Binds the code to its component and to this broker.
    fn seal(&self, component: &Digest, code: &[u8]) -> Hmac<Sha256> {
        let mut seal = Hmac::<Sha256>::new_from_slice(&self.key).expect("an HMAC takes a key of any length");
        seal.update(component.as_str().as_bytes());
        seal.update(code);
        seal
    }

    fn path(&self, component: &Digest) -> PathBuf {
        self.folder.join(format!("{component}.cwasm"))
    }

    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(u64::try_from(self.clock.now().0).unwrap_or(0))
    }
}

/// The files of all versions, with size and time of last use.
fn files(root: &Path) -> Vec<(PathBuf, u64, SystemTime)> {
    let list = |folder: &Path| fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut found = Vec::new();
    for folder in list(root) {
        for file in list(&folder.path()) {
            if let Ok(meta) = file.metadata()
                && let Ok(modified) = meta.modified()
                && meta.is_file()
            {
                found.push((file.path(), meta.len(), modified));
            }
        }
    }
    found
}

/// Names everything that compiled code depends on: the engine's version and settings, the processor's features, and the
/// bounds it was checked against.
fn compatibility(engine: &wasmtime::Engine) -> String {
    use std::hash::{Hash, Hasher};

    let mut hasher = std::collections::hash_map::DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    BOUNDS.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

fn private_file(path: &Path) -> io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt;

    fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::machine_code::digest;
    use switchboard_model::Timestamp;

    /// The smallest component: magic, version 13, layer 1.
    const EMPTY: &[u8] = &[0x00, 0x61, 0x73, 0x6d, 0x0d, 0x00, 0x01, 0x00];

    struct Kept {
        folder: PathBuf,
        engine: wasmtime::Engine,
        clock: Clock,
        cache: Cache,
        code: Vec<u8>,
    }

    impl Kept {
        fn new(name: &str, most: u64) -> Self {
            let folder = std::env::temp_dir().join(format!("switchboard-aot-{name}-{}", std::process::id()));
            let engine = wasmtime::Engine::default();
            // Written files carry the machine's time.
            let clock = Clock::manual(Timestamp(Clock::system().now().0));
            let cache = Cache::open(&folder, &engine, most, clock.clone()).unwrap();
            let code = engine.precompile_component(EMPTY).unwrap();
            Self { folder, engine, clock, cache, code }
        }

        fn keep(&self, name: &str) -> Digest {
            let digest = digest(name.as_bytes());
            self.cache.keep(&self.engine, &digest, &self.code).unwrap();
            digest
        }

        fn has(&self, component: &Digest) -> bool {
            self.cache.load(&self.engine, component).is_some()
        }
    }

    impl Drop for Kept {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }

    #[test]
    fn an_artefact_is_loaded_only_while_it_is_as_written() {
        let kept = Kept::new("damaged", 1 << 30);
        assert!(!kept.has(&digest(EMPTY)));
        let component = kept.keep("one");
        assert!(kept.has(&component));
        let path = kept.cache.path(&component);
        let whole = fs::read(&path).unwrap();
        for at in [0, SEAL, whole.len() / 2, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            assert!(!kept.has(&component), "a flipped bit at {at}");
        }
        for length in [0, SEAL - 1, SEAL, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(!kept.has(&component), "torn at {length}");
        }
        fs::write(&path, b"\x7fELF, which another program left here and which is longer than a seal").unwrap();
        assert!(!kept.has(&component), "no artefact at all");
        kept.keep("one");
        assert!(kept.has(&component), "it was written over");
        let others = kept.folder.with_extension("others");
        let theirs = Cache::open(&others, &kept.engine, 1 << 30, kept.clock.clone()).unwrap();
        theirs.keep(&kept.engine, &component, &kept.code).unwrap();
        fs::copy(theirs.path(&component), &path).unwrap();
        fs::remove_dir_all(others).unwrap();
        assert!(!kept.has(&component), "sealed with another broker's key");
    }

    #[test]
    fn an_artefact_of_another_component_or_engine_is_not_loaded() {
        let kept = Kept::new("foreign", 1 << 30);
        let (one, two) = (kept.keep("one"), digest(b"two"));
        fs::copy(kept.cache.path(&one), kept.cache.path(&two)).unwrap();
        assert!(!kept.has(&two), "under another component's name");
        let mut other = wasmtime::Config::new();
        other.epoch_interruption(true);
        let other = wasmtime::Engine::new(&other).unwrap();
        let theirs = Cache::open(&kept.folder, &other, 1 << 30, kept.clock.clone()).unwrap();
        assert!(theirs.load(&other, &one).is_none(), "it has a folder of its own");
        fs::copy(kept.cache.path(&one), theirs.path(&one)).unwrap();
        assert!(theirs.load(&other, &one).is_none(), "and the engine looks at what is put there");
    }

    #[test]
    fn what_was_unused_longest_makes_room_and_what_other_engines_left_goes_in_time() {
        let mut kept = Kept::new("room", 0);
        kept.cache.most = u64::try_from(kept.code.len() + SEAL).unwrap() * 5 / 2;
        let one = kept.keep("one");
        let two = kept.keep("two");
        kept.clock.advance(Duration::from_secs(60));
        assert!(kept.has(&one), "used again");
        let three = kept.keep("three");
        assert!(kept.has(&one) && kept.has(&three) && !kept.has(&two));

        let foreign = kept.folder.join("0123456789abcdef");
        fs::create_dir_all(&foreign).unwrap();
        fs::write(foreign.join("x.cwasm"), b"x").unwrap();
        kept.cache.make_room(0);
        assert!(foreign.join("x.cwasm").exists(), "that version may come back");
        kept.clock.advance(FOREIGN_FOR + Duration::from_secs(60));
        kept.cache.make_room(0);
        assert!(!foreign.join("x.cwasm").exists());
    }
}
