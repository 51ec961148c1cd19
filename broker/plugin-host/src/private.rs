//! Folders and files that only this user may change: what is loaded from them runs with all of the broker's rights.

use std::fs::{self, DirBuilder, Metadata, OpenOptions};
use std::io::{self, Error, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Group and others may write.
const WRITABLE: u32 = 0o022;

/// Group and others may do anything.
const OPEN: u32 = 0o077;

/// Creates a folder for this user only, or checks an existing one.
///
/// # Errors
///
/// If it cannot be created, or if somebody else owns it or can write to it. The text says what to do.
pub fn private_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    check(folder, &fs::metadata(folder)?, WRITABLE)
}

/// The bytes of a file that only this user can read and write. It is created with what `make` returns if it is missing.
pub(crate) fn private_bytes<const N: usize>(path: &Path, make: impl FnOnce() -> [u8; N]) -> io::Result<[u8; N]> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            let bytes = make();
            file.write_all(&bytes)?;
            file.sync_all()?;
            return Ok(bytes);
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    check(path, &fs::symlink_metadata(path)?, OPEN)?;
    let bytes = fs::read(path)?;
    bytes.try_into().map_err(|_| Error::other(format!("{} is not a key; remove it to get a new one", path.display())))
}

fn check(path: &Path, meta: &Metadata, forbidden: u32) -> io::Result<()> {
    let (owner, own) = (meta.uid(), rustix::process::geteuid().as_raw());
    if owner != own {
        let text = format!("{} belongs to user {owner} and not to user {own}, who runs this broker", path.display());
        return Err(Error::other(text));
    }
    let mode = meta.mode() & 0o777;
    if mode & forbidden != 0 {
        let (may, remedy) = if forbidden == OPEN { ("read or write", "go=") } else { ("write to", "go-w") };
        let text = format!("others may {may} {}: its mode is {mode:o}; run chmod {remedy} on it", path.display());
        return Err(Error::other(text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_others_can_write_is_refused() {
        let folder = std::env::temp_dir().join(format!("switchboard-private-{}", std::process::id()));
        private_folder(&folder).unwrap();
        let key = folder.join("key");
        assert_eq!(private_bytes(&key, || [7; 4]).unwrap(), [7; 4]);
        assert_eq!(private_bytes(&key, || [8; 4]).unwrap(), [7; 4], "it is kept");
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        for open in [0o640, 0o604, 0o660] {
            mode(&key, open);
            assert!(private_bytes(&key, || [8; 4]).unwrap_err().to_string().contains("chmod go="), "{open:o}");
        }
        for open in [0o770, 0o702, 0o777] {
            mode(&folder, open);
            assert!(private_folder(&folder).unwrap_err().to_string().contains("chmod go-w"), "{open:o}");
        }
        mode(&folder, 0o755);
        private_folder(&folder).unwrap();
        fs::remove_dir_all(folder).unwrap();
    }
}
