//! Tells when files have changed, without reading them.
//!
//! Knows nothing about what is in them. A stamp holds the change time, which nothing
//! can set back: a file that was copied with its old date, or replaced by another
//! of the same size, has another stamp.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What a set of files looks like from outside: equal stamps, equal contents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp(BTreeMap<PathBuf, Option<Look>>);

/// What changes with a file's contents.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Look {
    place: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Look {
    /// Of a directory, which also changes by what is not looked at.
    const THERE: Self = Self {
        place: (0, 0),
        size: 0,
        modified: (0, 0),
        changed: (0, 0),
    };

    /// Links are followed: a mounted directory of Kubernetes is replaced by its link.
    fn at(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|file: Metadata| Self {
            place: (file.dev(), file.ino()),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        })
    }
}

impl Stamp {
    /// Of what a directory holds, but for hidden files.
    pub(super) fn of_directory(directory: &Path) -> Self {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let paths = entries
            .map(|entry| entry.file_name())
            .filter(|name: &OsString| !name.as_encoded_bytes().starts_with(b"."))
            .map(|name| directory.join(name));
        let mut stamp = Self::of(paths);
        // Whether it is there at all.
        stamp.0.insert(
            directory.to_owned(),
            directory.exists().then_some(Look::THERE),
        );
        stamp
    }

    /// Of files that may be there or not.
    pub(super) fn of(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        Self(
            paths
                .into_iter()
                .map(|path| {
                    let look = Look::at(&path);
                    (path, look)
                })
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_change_shows() {
        let directory = tempfile::tempdir().unwrap();
        let (here, file) = (directory.path(), directory.path().join("a.yaml"));
        let mut stamps = vec![Stamp::of_directory(here)];
        let mut changed = |what: &str, is: bool| {
            let stamp = Stamp::of_directory(here);
            let last = stamps.last().unwrap();
            assert_eq!(*last != stamp, is, "{what}");
            stamps.push(stamp);
            // Longer than the clock by which a file system tells times apart.
            std::thread::sleep(std::time::Duration::from_millis(20));
        };
        changed("nothing", false);
        fs::write(&file, "one").unwrap();
        changed("a file", true);
        fs::write(here.join(".hidden"), "x").unwrap();
        changed("a hidden one", false);
        fs::write(&file, "two").unwrap();
        changed("as long, in place", true);
        let old = fs::metadata(&file).unwrap().modified().unwrap();
        fs::write(&file, "six").unwrap();
        let open = fs::File::options().append(true).open(&file).unwrap();
        open.set_modified(old).unwrap();
        changed("with its old date", true);
        fs::write(here.join(".new"), "ten").unwrap();
        fs::rename(here.join(".new"), &file).unwrap();
        changed("another in its place", true);
        fs::remove_file(&file).unwrap();
        changed("gone", true);
        changed("still gone", false);
        fs::remove_file(here.join(".hidden")).unwrap();
        fs::remove_dir(here).unwrap();
        changed("all gone", true);
    }
}
