//! Whether a line is the record that was signed, by a root that the caller knows.
//!
//! Tiles lie beside the log and may have been written by whoever wrote that; what leads from
//! them to the root cannot be. Invariant: no line is said to be a record that is not under
//! that root at that place.

use std::io;

use super::note::Checkpoint;
use super::store::Store;
use super::{Hash, Kind, WIDTH, entry, includes, leaf};

/// A tree of which the root is known.
#[derive(Debug)]
pub struct Signed {
    store: Store,
    head: Checkpoint,
    /// The leaves of one tile, and which tile that is
    tile: Option<(u64, Vec<Hash>)>,
}

impl Signed {
    /// By tiles, as far as they lead to that head's root.
    pub fn new(store: Store, head: Checkpoint) -> Self {
        Self {
            store,
            head,
            tile: None,
        }
    }

    /// Whether a line, without its end, is the record of that number.
    ///
    /// # Errors
    /// Where a tile cannot be read.
    pub fn holds(&mut self, index: u64, line: &[u8]) -> io::Result<bool> {
        let (tile, at) = (index / WIDTH as u64, (index % WIDTH as u64) as usize);
        let leaves = match self.tile.take() {
            Some((of, leaves)) if of == tile => leaves,
            _ => self.leaves(index)?,
        };
        let same = leaves.get(at) == Some(&leaf(&entry(line)));
        self.tile = Some((tile, leaves));
        Ok(same)
    }

    /// The leaves of a record's tile; none, where they do not lead to the root. One that does
    /// vouches for all of them: the others are on its way there.
    fn leaves(&self, index: u64) -> io::Result<Vec<Hash>> {
        let Checkpoint { size, root } = &self.head;
        if index >= *size {
            return Ok(Vec::new());
        }
        let (width, tile) = (WIDTH as u64, index / WIDTH as u64);
        let held = (size - tile * width).min(width) as usize;
        let leaves = self.store.tile(Kind::Hashes(0), tile, held)?;
        let path = self.store.inclusion(index, *size)?;
        let leads = leaves
            .get((index % width) as usize)
            .is_some_and(|own| includes(own, index, *size, &path, root));
        Ok(if leads { leaves } else { Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::tree::Tree;

    #[test]
    fn a_line_is_held_against_the_root_and_not_against_tiles_alone() {
        let line = |index: u64| format!("record {index}").into_bytes();
        for size in [1, 2, 255, 256, 257, 700] {
            let directory = tempfile::tempdir().unwrap();
            let store = || Store::new(directory.path().to_owned());
            let mut tree = Tree::default();
            (0..size).for_each(|index| tree.push(entry(&line(index))));
            let full = tree.take_full();
            store().put(full.iter().chain(&tree.partial())).unwrap();
            let head = || Checkpoint {
                size,
                root: tree.root(),
            };
            let mut signed = Signed::new(store(), head());
            for index in 0..size {
                assert!(signed.holds(index, &line(index)).unwrap(), "{index}");
                assert!(!signed.holds(index, &line(index + 1)).unwrap(), "{index}");
            }
            assert!(!signed.holds(size, &line(size)).unwrap());
            // Tiles of another log, whole by themselves.
            let directory = tempfile::tempdir().unwrap();
            let store = || Store::new(directory.path().to_owned());
            let mut other = Tree::default();
            (0..size).for_each(|_| other.push(entry(b"another")));
            let full = other.take_full();
            store().put(full.iter().chain(&other.partial())).unwrap();
            let mut signed = Signed::new(store(), head());
            assert!(!signed.holds(0, b"another").unwrap(), "{size}");
        }
    }
}
