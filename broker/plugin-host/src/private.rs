//! Folders and files that only this user may change: what is loaded from them runs with all of the broker's rights.

use std::fs::{self, DirBuilder, Metadata, OpenOptions};
use std::io::{self, Error, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

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

/// What a file says that is created for this user alone, with what `make` returns, if it is missing. It appears whole: of
/// several who create it at once, all get what the first has written.
///
/// # Errors
///
/// If it can neither be read nor created.
pub fn kept(path: &Path, make: impl FnOnce() -> Vec<u8>) -> io::Result<Vec<u8>> {
    static BEGUN: AtomicU64 = AtomicU64::new(0);
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => return found,
    }
    let number = BEGUN.fetch_add(1, Ordering::Relaxed);
    let aside = path.with_extension(format!("{}-{number}.part", std::process::id()));
    // What a process of the same number left when it was killed.
    let _ = fs::remove_file(&aside);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    let linked = file.write_all(&make()).and_then(|()| file.sync_all()).and_then(|()| fs::hard_link(&aside, path));
    fs::remove_file(&aside)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => fs::read(path),
    }
}

/// The bytes of a file as of [`kept`], which nobody but this user can read or write.
pub(crate) fn private_bytes<const N: usize>(path: &Path, make: impl FnOnce() -> [u8; N]) -> io::Result<[u8; N]> {
    let bytes = kept(path, || make().to_vec())?;
    check(path, &fs::symlink_metadata(path)?, OPEN)?;
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
    fn of_many_who_create_a_file_at_once_all_get_the_same() {
        let folder = std::env::temp_dir().join(format!("switchboard-kept-{}", std::process::id()));
        private_folder(&folder).unwrap();
        for round in 0..50 {
            let path = folder.join(round.to_string());
            let all: Vec<_> = std::thread::scope(|scope| {
                let tasks: Vec<_> = (0..8u8)
                    .map(|n| {
                        scope.spawn({
                            let path = &path;
                            move || kept(path, || vec![n; 64]).unwrap()
                        })
                    })
                    .collect();
                tasks.into_iter().map(|task| task.join().unwrap()).collect()
            });
            assert!(all[0].len() == 64 && all.iter().all(|one| *one == all[0]), "{all:?}");
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 50, "nothing else is left");
        fs::remove_dir_all(folder).unwrap();
    }

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
