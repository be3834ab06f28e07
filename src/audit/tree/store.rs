//! Tiles and checkpoints as files, where C2SP tlog-tiles has them.
//!
//! Knows nothing about keys. Invariant: what a checkpoint tells of is on disk before
//! the checkpoint is; a tile that the latest one needs is whole at every moment.
//!
//! Source: <https://c2sp.org/tlog-tiles>

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{Hash, Kind, Tile, Tree, WIDTH, node};

/// A directory of tiles.
#[derive(Clone, Debug)]
pub struct Store(PathBuf);

/// The file of the latest checkpoint.
const CHECKPOINT: &str = "checkpoint";
/// All of them, one JSON object a line.
const HISTORY: &str = "checkpoints.jsonl";

impl Store {
    /// The one in that directory.
    pub fn new(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// Where a tile is: `tile/0/x001/x234/067`, or of those that are not full,
    /// `tile/0/x001/x234/067.p/8`.
    fn path(&self, kind: Kind, index: u64, width: usize) -> PathBuf {
        let mut path = self.0.join("tile");
        match kind {
            Kind::Hashes(level) => path.push(level.to_string()),
            Kind::Entries => path.push("entries"),
        }
        let mut groups = vec![format!("{:03}", index % 1000)];
        let mut rest = index / 1000;
        while rest > 0 {
            groups.push(format!("x{:03}", rest % 1000));
            rest /= 1000;
        }
        path.extend(groups.iter().rev());
        if width < WIDTH {
            path.as_mut_os_string().push(".p");
            path.push(width.to_string());
        }
        path
    }

    /// Writes tiles, and has them on disk. All are written before any is waited for, so
    /// that the system can bring them there together.
    ///
    /// # Errors
    /// Where they cannot be.
    pub fn put<'a>(&self, tiles: impl IntoIterator<Item = &'a Tile>) -> io::Result<()> {
        let (mut paths, mut directories) = (Vec::new(), BTreeSet::new());
        for tile in tiles {
            let path = self.path(tile.kind, tile.index, tile.width);
            let Some(parent) = path.parent() else {
                continue;
            };
            folder(parent)?;
            let above = parent.ancestors();
            directories.extend(
                above
                    .take_while(|it| it.starts_with(&self.0))
                    .map(Path::to_owned),
            );
            let mut new = path.clone().into_os_string();
            new.push(".new");
            create(Path::new(&new))?.write_all(&tile.bytes)?;
            paths.push((PathBuf::from(new), path));
        }
        for (new, _) in &paths {
            File::open(new)?.sync_all()?;
        }
        for (new, path) in &paths {
            fs::rename(new, path)?;
        }
        directories
            .iter()
            .try_for_each(|directory| File::open(directory)?.sync_all())
    }

    /// Removes what tiles that are now full were before: not earlier, for who reads by
    /// an older checkpoint still needs it.
    pub fn sweep(&self, full: &[Tile]) {
        for tile in full {
            let mut partial = self.path(tile.kind, tile.index, WIDTH).into_os_string();
            partial.push(".p");
            // Where there is none, there is nothing to remove.
            let _ = fs::remove_dir_all(partial);
        }
    }

    /// The hashes of a tile, or its entries.
    ///
    /// # Errors
    /// Where it is not there, or does not hold as many.
    pub fn tile(&self, kind: Kind, index: u64, width: usize) -> io::Result<Vec<Hash>> {
        let bytes = self.raw(kind, index, width)?;
        let (size, skip) = match kind {
            Kind::Hashes(_) => (32, 0),
            Kind::Entries => (34, 2),
        };
        let hashes: Vec<Hash> = bytes
            .chunks(size)
            .filter_map(|chunk| chunk.get(skip..)?.try_into().ok())
            .collect();
        match hashes.len() == width && bytes.len() == width * size {
            true => Ok(hashes),
            false => Err(io::Error::other("a tile of another size")),
        }
    }

    /// A tile as it is stored. A full one does for one that is not, as the
    /// specification has it.
    ///
    /// # Errors
    /// Where it is not there.
    pub fn raw(&self, kind: Kind, index: u64, width: usize) -> io::Result<Vec<u8>> {
        let own = fs::read(self.path(kind, index, width));
        if own.is_ok() || width == WIDTH {
            return own;
        }
        let mut full = fs::read(self.path(kind, index, WIDTH))?;
        full.truncate(full.len() / WIDTH * width);
        Ok(full)
    }

    /// A tree of that size, to go on with.
    ///
    /// # Errors
    /// Where a tile of it is not there.
    pub fn tree(&self, size: u64) -> io::Result<Tree> {
        let last = |kind, size: u64| match (size % WIDTH as u64) as usize {
            0 => Ok(Vec::new()),
            width => self.tile(kind, size / WIDTH as u64, width),
        };
        let entries = last(Kind::Entries, size)?;
        let (mut levels, mut rest) = (Vec::new(), size);
        for level in 0..u8::MAX {
            if rest == 0 {
                break;
            }
            levels.push(last(Kind::Hashes(level), rest)?);
            rest /= WIDTH as u64;
        }
        Ok(Tree::resume(size, entries, levels))
    }

    /// The entries from one to another, of a tree of that size.
    ///
    /// # Errors
    /// Where a tile of them is not there.
    pub fn entries(&self, from: u64, to: u64, size: u64) -> io::Result<Vec<Hash>> {
        let mut all = Vec::new();
        let width = WIDTH as u64;
        for index in from / width..to.div_ceil(width) {
            let first = index * width;
            let held = (size - first).min(width);
            let entries = self.tile(Kind::Entries, index, held as usize)?;
            let wanted = (first..)
                .zip(entries)
                .filter(|(at, _)| (from..to).contains(at));
            all.extend(wanted.map(|(_, entry)| entry));
        }
        Ok(all)
    }

    /// The hashes that lead from a leaf to the root of a tree of that size
    /// (RFC 9162, section 2.1.3.1).
    ///
    /// # Errors
    /// Where a tile of them is not there.
    pub fn inclusion(&self, index: u64, size: u64) -> io::Result<Vec<Hash>> {
        let (mut from, mut to, mut path) = (0, size, Vec::new());
        while to - from > 1 {
            let middle = from + (to - from).next_power_of_two() / 2;
            if index < middle {
                path.push(self.subtree(middle, to, size)?);
                to = middle;
            } else {
                path.push(self.subtree(from, middle, size)?);
                from = middle;
            }
        }
        path.reverse();
        Ok(path)
    }

    fn subtree(&self, from: u64, to: u64, size: u64) -> io::Result<Hash> {
        let length = to - from;
        let height = length.trailing_zeros();
        if length.is_power_of_two() && height.is_multiple_of(8) {
            let level = height / 8;
            let (width, at) = (WIDTH as u64, from >> height);
            let index = at / width;
            let held = ((size >> height) - index * width).min(width);
            let hashes = self.tile(Kind::Hashes(level as u8), index, held as usize)?;
            let hash = hashes.get((at % width) as usize).copied();
            return hash.ok_or_else(|| io::Error::other("a tile of another size"));
        }
        let middle = from + length.next_power_of_two() / 2;
        let (left, right) = (
            self.subtree(from, middle, size)?,
            self.subtree(middle, to, size)?,
        );
        Ok(node(&left, &right))
    }

    /// The latest checkpoint, if there is any.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn checkpoint(&self) -> io::Result<Option<String>> {
        match fs::read_to_string(self.0.join(CHECKPOINT)) {
            Ok(note) => Ok(Some(note)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts a checkpoint in the place of the latest, and remembers it.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn put_checkpoint(&self, note: &str) -> io::Result<()> {
        folder(&self.0)?;
        let new = self.0.join("checkpoint.new");
        durable(&new, note.as_bytes())?;
        fs::rename(&new, self.0.join(CHECKPOINT))?;
        File::open(&self.0)?.sync_all()?;
        remember(&self.0.join(HISTORY), note)
    }

    /// All checkpoints, in the order in which they were made.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn history(&self) -> io::Result<Vec<String>> {
        match fs::read_to_string(self.0.join(HISTORY)) {
            Ok(text) => Ok(notes(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// Adds a checkpoint to a file of them.
///
/// # Errors
/// Where it cannot be written.
pub fn remember(file: &Path, note: &str) -> io::Result<()> {
    let time = jiff::Timestamp::now();
    let line = serde_json::json!({ "checkpoint": note, "time": format!("{time:.3}") });
    // Whoever wrote there last may have ended within a line.
    let ends = match File::open(file).and_then(|file| Ok((file.metadata()?.len(), file))) {
        Ok((0, _)) => true,
        Ok((len, file)) => {
            let mut last = [0];
            file.read_exact_at(&mut last, len - 1).is_ok() && last == *b"\n"
        }
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    let first = if ends { "" } else { "\n" };
    let mut options = OpenOptions::new();
    let mut file = options.append(true).create(true).mode(0o600).open(file)?;
    let before = file.metadata()?.len();
    if let Err(error) = file.write_all(format!("{first}{line}\n").as_bytes()) {
        // Half a line is none; where it stays, the next one does not begin in it.
        let _ = file.set_len(before);
        return Err(error);
    }
    file.sync_data()
}

/// The checkpoints of such a file; or the one that it holds.
fn notes(text: &str) -> Vec<String> {
    if !text.starts_with('{') {
        return vec![text.to_owned()];
    }
    text.lines().filter_map(told).collect()
}

/// The same of a file that somebody kept, to hold a log against: nothing in it is passed
/// over but a last line without an end.
///
/// # Errors
/// Where a line tells of no checkpoint, or none does.
pub fn kept(text: &str) -> io::Result<Vec<String>> {
    if !text.starts_with('{') {
        return Ok(vec![text.to_owned()]);
    }
    let mut notes = Vec::new();
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        match told(line) {
            Some(note) => notes.push(note),
            None if line.trim().is_empty() || !line.ends_with('\n') => {}
            None => {
                return Err(io::Error::other(format!(
                    "line {number} is no checkpoint (hint: a line that was written by half may \
                     be removed)"
                )));
            }
        }
    }
    match notes.is_empty() {
        true => Err(io::Error::other("there is no checkpoint in it")),
        false => Ok(notes),
    }
}

fn told(line: &str) -> Option<String> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    Some(line.get("checkpoint")?.as_str()?.to_owned())
}

fn folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn durable(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::super::{entry, includes, leaf};
    use super::*;

    #[test]
    fn a_tree_goes_on_from_its_tiles_and_proves_each_leaf() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path().join("log"));
        let mut tree = Tree::default();
        let entries: Vec<Hash> = (0..66_000_u32).map(|at| entry(&at.to_be_bytes())).collect();
        let sizes = [1, 2, 255, 256, 257, 700, 65_535, 65_536, 65_537, 66_000];
        for (at, own) in (1..).zip(&entries) {
            tree.push(*own);
            if !sizes.contains(&at) {
                continue;
            }
            let (full, partial) = (tree.take_full(), tree.partial());
            store.put(full.iter().chain(&partial)).unwrap();
            store.sweep(&full);
            let read = store.tree(at).unwrap();
            assert_eq!(read.root(), tree.root(), "{at}");
            assert_eq!(read.partial(), tree.partial(), "{at}");
            let held = store.entries(at.saturating_sub(300), at, at).unwrap();
            assert_eq!(held, entries[at.saturating_sub(300) as usize..at as usize]);
            for index in [0, at / 3, at / 2, at - 1] {
                let path = store.inclusion(index, at).unwrap();
                let hash = leaf(&entries[index as usize]);
                assert!(
                    includes(&hash, index, at, &path, &tree.root()),
                    "{index} of {at}"
                );
                assert!(!includes(&hash, index + 1, at, &path, &tree.root()));
                let other = leaf(&entry(b"other"));
                assert!(!includes(&other, index, at, &path, &tree.root()));
            }
        }
    }

    #[test]
    fn a_tile_that_is_there_stays_whole_until_all_new_ones_are_on_disk() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path().join("log"));
        let tile = |index, byte| Tile {
            kind: Kind::Hashes(0),
            index,
            width: 1,
            bytes: vec![byte; 32],
        };
        store.put(&[tile(0, 1)]).unwrap();
        let path = store.path(Kind::Hashes(0), 0, 1);
        let mut reader = File::open(&path).unwrap();
        // One of them cannot be written: a directory is in its way.
        let mut blocked = store.path(Kind::Hashes(0), 1, 1).into_os_string();
        blocked.push(".new");
        fs::create_dir_all(&blocked).unwrap();
        store.put(&[tile(0, 2), tile(1, 2)]).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), [1; 32]);
        fs::remove_dir(&blocked).unwrap();
        store.put(&[tile(0, 2), tile(1, 2)]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), [2; 32]);
        // Who had it open has what it was: it was not written over.
        let mut held = Vec::new();
        io::Read::read_to_end(&mut reader, &mut held).unwrap();
        assert_eq!(held, [1; 32]);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn of_a_file_that_was_kept_nothing_is_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("copies");
        let text = || fs::read_to_string(&file).unwrap();
        remember(&file, "1").unwrap();
        fs::write(&file, text() + "{\"checkpo").unwrap();
        assert_eq!(kept(&text()).unwrap(), ["1"], "half a line, the last");
        // What follows is a line of its own, and the half one is told of.
        remember(&file, "2").unwrap();
        assert_eq!(notes(&text()), ["1", "2"]);
        let error = kept(&text()).unwrap_err().to_string();
        assert!(error.starts_with("line 2 is no checkpoint"), "{error}");
        for none in [
            "{",
            "{}",
            "{\"checkpoint\":\"1\"",
            "{}\n{\"checkpoint\":\"1\"}\n",
        ] {
            assert!(kept(none).is_err(), "{none}");
        }
        assert_eq!(kept("a note\n").unwrap(), ["a note\n"]);
    }

    #[test]
    fn tiles_are_where_the_specification_has_them() {
        let store = Store::new("log".into());
        for (kind, index, width, path) in [
            (Kind::Hashes(0), 0, 256, "log/tile/0/000"),
            (Kind::Hashes(2), 1_234_067, 256, "log/tile/2/x001/x234/067"),
            (
                Kind::Entries,
                1_234_067,
                8,
                "log/tile/entries/x001/x234/067.p/8",
            ),
        ] {
            assert_eq!(store.path(kind, index, width), Path::new(path));
        }
    }
}
