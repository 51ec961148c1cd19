//! A disk that a test may fill: a small file system in memory.
//!
//! A process of its own mounts it and takes it away again when its standard input closes, which it does however the test
//! ends. Where the tests are not root's, that process has a namespace of its own, and programs have to be started there.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::Folder;

/// `$1` is the size in MiB, `$2` the folder. Signals that a terminal sends to all are not for this process.
const KEEPER: &str = r#"
trap '' INT TERM HUP
mount -t tmpfs -o "size=$1m,mode=0777" switchboard-test "$2" || exit 1
echo mounted
cat >/dev/null
umount --lazy "$2"
"#;

/// A file system of a few MiB that ends with this value.
#[derive(Debug)]
pub struct SmallDisk {
    keeper: Child,
    is_roots: bool,
    path: PathBuf,
    // The folder goes last: it cannot be removed while something is mounted there.
    folder: Folder,
}

impl SmallDisk {
    /// An empty disk of this many MiB. Everyone may write to it.
    ///
    /// # Panics
    /// When the system does not let us mount one.
    pub fn mount(mebibytes: u32) -> Self {
        let folder = Folder::create();
        let is_roots = fs::metadata("/proc/self").expect("a process has a place in /proc").uid() == 0;
        let mut command = if is_roots { Command::new("sh") } else { Command::new("unshare") };
        if !is_roots {
            command.args(["--user", "--map-root-user", "--mount", "sh"]);
        }
        let mut keeper = command
            .args(["-c", KEEPER, "keeper", &mebibytes.to_string()])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("there are the programs `sh` and `unshare`");
        let mut said = String::new();
        let stdout = keeper.stdout.take().expect("standard output is piped");
        BufReader::new(stdout).read_line(&mut said).expect("the process says something or ends");
        assert_eq!(
            said.trim(),
            "mounted",
            "this test needs the right to mount a file system: root's, or user namespaces"
        );
        let path = if is_roots {
            folder.path().to_owned()
        } else {
            let seen_by_the_keeper = Path::new("/proc").join(keeper.id().to_string()).join("root");
            seen_by_the_keeper.join(folder.path().strip_prefix("/").expect("a temporary folder has an absolute path"))
        };
        Self { keeper, is_roots, path, folder }
    }

    /// Where this process finds it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where those find it who came in by the [`SmallDisk::entrance`].
    pub(crate) fn path_inside(&self) -> &Path {
        self.folder.path()
    }

    /// The command that starts the program behind it where the disk is to be seen.
    pub(crate) fn entrance(&self) -> Vec<String> {
        if self.is_roots {
            return Vec::new();
        }
        let keeper = self.keeper.id().to_string();
        ["nsenter", "--target", &keeper, "--user", "--mount", "--preserve-credentials"].map(str::to_owned).to_vec()
    }

    /// Takes all room that is left; returns how many bytes that was.
    ///
    /// # Panics
    /// When something other than a lack of room stops it.
    pub fn fill(&self) -> u64 {
        let mut ballast = File::options().create(true).append(true).open(self.ballast()).expect("the disk is writable");
        let mut taken = 0;
        for size in [64 << 10, 4 << 10, 1] {
            let block = vec![0xFF; size];
            loop {
                match ballast.write(&block) {
                    Ok(written) => taken += written as u64,
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("cannot fill the disk: {error}"),
                }
            }
        }
        taken
    }

    /// Gives back the room that [`SmallDisk::fill`] took.
    ///
    /// # Panics
    /// When it was not filled.
    pub fn make_room(&self) {
        fs::remove_file(self.ballast()).expect("the disk was filled before");
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
