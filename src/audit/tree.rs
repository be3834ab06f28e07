//! The Merkle tree over a log's entries (RFC 9162, section 2.1), grown leaf by leaf
//! and cut into tiles (C2SP tlog-tiles).
//!
//! Knows nothing about files or records: an entry is the SHA-256 of a record's
//! canonical line, so that the tree can be told, and stays verifiable, without the
//! records themselves.
//!
//! Sources: <https://www.rfc-editor.org/rfc/rfc9162#section-2.1>,
//! <https://c2sp.org/tlog-tiles>

pub mod note;
pub mod signed;
pub mod store;

use ring::digest::{Context, SHA256, digest};

/// A SHA-256.
pub type Hash = [u8; 32];

/// Hashes that a full tile holds, and levels of the tree that it spans.
pub const WIDTH: usize = 256;
const HEIGHT: u32 = 8;

/// The entry of a record: the digest of its line, without its end.
pub fn entry(line: &[u8]) -> Hash {
    bytes(digest(&SHA256, line).as_ref())
}

/// The hash of a leaf.
pub fn leaf(entry: &Hash) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(&[0]);
    context.update(entry);
    bytes(context.finish().as_ref())
}

/// The hash of a node.
pub fn node(left: &Hash, right: &Hash) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(&[1]);
    context.update(left);
    context.update(right);
    bytes(context.finish().as_ref())
}

fn bytes(digest: &[u8]) -> Hash {
    // A SHA-256 has as many.
    digest.try_into().unwrap_or_default()
}

/// Which tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Hashes of that level: 0 of leaves, 1 of what 256 of them make, …
    Hashes(u8),
    /// Entries, each behind its length
    Entries,
}

/// A tile as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Of what
    pub kind: Kind,
    /// The how many-th
    pub index: u64,
    /// How much it holds, at most [`WIDTH`]
    pub width: usize,
    /// It
    pub bytes: Vec<u8>,
}

/// A tree of so many leaves: what of it is needed to go on.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    size: u64,
    /// By level, the hashes of its tile that is not full
    levels: Vec<Vec<Hash>>,
    /// The same of entries
    entries: Vec<Hash>,
    /// Full tiles that nobody has taken yet
    full: Vec<Tile>,
}

impl Tree {
    /// One that ends in these tiles: entries, and the hashes of each level.
    fn resume(size: u64, entries: Vec<Hash>, levels: Vec<Vec<Hash>>) -> Self {
        Self {
            size,
            levels,
            entries,
            full: Vec::new(),
        }
    }

    /// How many leaves it has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds an entry.
    pub fn push(&mut self, entry: Hash) {
        let index = self.size / WIDTH as u64;
        self.entries.push(entry);
        if self.entries.len() == WIDTH {
            let tile = tile(Kind::Entries, index, &std::mem::take(&mut self.entries));
            self.full.push(tile);
        }
        self.push_leaf(leaf(&entry));
    }

    /// Adds a leaf whose entry is not known; no tile of entries can be taken then.
    pub fn push_leaf(&mut self, mut hash: Hash) {
        let mut index = self.size / WIDTH as u64;
        self.size += 1;
        for level in 0..u8::MAX {
            if self.levels.len() == usize::from(level) {
                self.levels.push(Vec::new());
            }
            let Some(hashes) = self.levels.get_mut(usize::from(level)) else {
                return;
            };
            hashes.push(hash);
            if hashes.len() < WIDTH {
                return;
            }
            let full = std::mem::take(hashes);
            self.full.push(tile(Kind::Hashes(level), index, &full));
            hash = perfect(full);
            index /= WIDTH as u64;
        }
    }

    /// The tiles that have become full since the last time.
    pub fn take_full(&mut self) -> Vec<Tile> {
        std::mem::take(&mut self.full)
    }

    /// The tiles that are not full.
    pub fn partial(&self) -> Vec<Tile> {
        let mut index = self.size / WIDTH as u64;
        let mut tiles = vec![tile(Kind::Entries, index, &self.entries)];
        for (level, hashes) in (0..).zip(&self.levels) {
            tiles.push(tile(Kind::Hashes(level), index, hashes));
            index /= WIDTH as u64;
        }
        tiles.retain(|tile| tile.width > 0);
        tiles
    }

    /// Its root (`MTH`).
    pub fn root(&self) -> Hash {
        // Perfect subtrees from the left, each smaller than the one before.
        let mut peaks: Vec<(u32, Hash)> = Vec::new();
        for (level, hashes) in self.levels.iter().enumerate().rev() {
            for hash in hashes {
                let (mut height, mut hash) = (HEIGHT * level as u32, *hash);
                while let Some((_, left)) = peaks.pop_if(|(peak, _)| *peak == height) {
                    hash = node(&left, &hash);
                    height += 1;
                }
                peaks.push((height, hash));
            }
        }
        let mut hashes = peaks.into_iter().rev().map(|(_, hash)| hash);
        match hashes.next() {
            Some(last) => hashes.fold(last, |right, left| node(&left, &right)),
            None => entry(b""),
        }
    }
}

/// The root over as many hashes as a power of two.
fn perfect(mut hashes: Vec<Hash>) -> Hash {
    while hashes.len() > 1 {
        hashes = hashes
            .chunks(2)
            .filter_map(|pair| match pair {
                [left, right] => Some(node(left, right)),
                _ => None,
            })
            .collect();
    }
    hashes.first().copied().unwrap_or_default()
}

fn tile(kind: Kind, index: u64, hashes: &[Hash]) -> Tile {
    let mut bytes = Vec::with_capacity(hashes.len() * 34);
    for hash in hashes {
        if kind == Kind::Entries {
            bytes.extend_from_slice(&32_u16.to_be_bytes());
        }
        bytes.extend_from_slice(hash);
    }
    Tile {
        kind,
        index,
        width: hashes.len(),
        bytes,
    }
}

/// Whether a leaf stands at that index of a tree with that root (section 2.1.3.2).
pub fn includes(leaf: &Hash, index: u64, size: u64, path: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last, mut hash) = (index, size - 1, *leaf);
    for step in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node(step, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node(&hash, step);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As RFC 9162 defines it.
    fn mth(entries: &[Hash]) -> Hash {
        match entries {
            [] => entry(b""),
            [one] => leaf(one),
            _ => {
                let (left, right) = entries.split_at(entries.len().next_power_of_two() / 2);
                node(&mth(left), &mth(right))
            }
        }
    }

    #[test]
    fn the_root_is_the_rfc_s() {
        let entries: Vec<Hash> = (0..70_000_u32).map(|at| entry(&at.to_be_bytes())).collect();
        let mut tree = Tree::default();
        assert_eq!(tree.root(), mth(&[]));
        for (at, entry) in entries.iter().enumerate() {
            tree.push(*entry);
            let size = at + 1;
            if size <= 600 || [65_535, 65_536, 65_537, 70_000].contains(&size) {
                assert_eq!(tree.root(), mth(&entries[..size]), "{size}");
            }
        }
        let full = tree.take_full();
        let of = |kind| full.iter().filter(move |tile| tile.kind == kind);
        assert_eq!(of(Kind::Entries).count(), 70_000 / 256);
        assert_eq!(of(Kind::Hashes(0)).count(), 70_000 / 256);
        assert_eq!(of(Kind::Hashes(1)).count(), 1);
        assert!(full.iter().all(|tile| tile.width == WIDTH));
    }

    #[test]
    fn the_hashes_are_those_of_certificate_transparency() {
        // Of an empty tree, and of a leaf that is empty: SHA-256 of nothing and of a
        // zero byte.
        let hex = |hash: Hash| {
            hash.iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        assert_eq!(
            hex(Tree::default().root()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(
            hex(entry(&[0])),
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
        );
    }
}
