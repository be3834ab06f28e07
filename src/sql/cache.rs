//! What was decided for a text, kept for the next time it is asked.
//!
//! Knows nothing about how plans are made. Invariant: the key holds everything
//! that a plan depends on, so an entry is never wrong, only unused; refusals
//! are not kept.

use std::sync::Arc;

use super::Scope;
use crate::catalog::Oid;

/// Everything that a plan depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The client's text
    pub text: Arc<str>,
    /// [`crate::policy::Rights::digest`]
    pub rights: [u8; 32],
    /// The dataset, and so the catalog's database
    pub dataset: Arc<str>,
    /// [`crate::catalog::Catalog::epoch`]
    pub catalog: u64,
    /// Where the session looks names up
    pub scope: Scope,
    /// The types that the client gives its parameters
    pub parameters: Box<[Oid]>,
}

/// A bounded cache; clones share it.
#[derive(Clone)]
pub struct Cache<V> {
    entries: moka::sync::Cache<Key, Weighed<V>>,
}

#[derive(Clone)]
struct Weighed<V> {
    value: V,
    bytes: u32,
}

impl<V: Clone + Send + Sync + 'static> Cache<V> {
    /// Holds about that many bytes.
    pub fn new(bytes: u64) -> Self {
        let entries = moka::sync::Cache::builder()
            .max_capacity(bytes)
            .weigher(|_, entry: &Weighed<V>| entry.bytes)
            .build();
        Self { entries }
    }

    /// What is kept for exactly that key.
    pub fn get(&self, key: &Key) -> Option<V> {
        self.entries.get(key).map(|entry| entry.value)
    }

    /// Keeps a value that takes about that many bytes besides its key.
    pub fn insert(&self, key: Key, value: V, bytes: usize) {
        let names: usize = [&key.scope.search_path, &key.scope.temporary]
            .into_iter()
            .flat_map(|names| names.iter())
            .map(|name| name.len() + 32)
            .sum();
        // moka keeps some two hundred bytes of its own by entry.
        let bytes = bytes.saturating_add(key.text.len() + names + 4 * key.parameters.len() + 256);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.entries.insert(key, Weighed { value, bytes });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(path: &[&str], temporary: &[&str]) -> Scope {
        let names = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect();
        Scope {
            search_path: names(path),
            temporary: names(temporary),
        }
    }

    fn key() -> Key {
        Key {
            text: "select email from customers".into(),
            rights: [1; 32],
            dataset: "shop".into(),
            catalog: 7,
            scope: scope(&["public"], &[]),
            parameters: [23].into(),
        }
    }

    #[test]
    fn different_rights_never_share_an_entry() {
        let cache = Cache::new(1 << 20);
        cache.insert(key(), "for the auditor", 100);
        assert_eq!(cache.get(&key()), Some("for the auditor"));
        for bit in 0..256 {
            let mut other = key();
            other.rights[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(cache.get(&other), None);
        }
    }

    #[test]
    fn neither_do_other_texts_catalogs_datasets_paths_or_types() {
        let cache = Cache::new(1 << 20);
        cache.insert(key(), (), 100);
        let others: [fn(&mut Key); 6] = [
            |key| key.text = "select email from customers ".into(),
            |key| key.catalog += 1,
            |key| key.dataset = "shop2".into(),
            |key| key.scope = scope(&["public", "b"], &[]),
            |key| key.scope = scope(&["public"], &["t"]),
            |key| key.parameters = [26].into(),
        ];
        for change in others {
            let mut other = key();
            change(&mut other);
            assert_eq!(cache.get(&other), None);
        }
    }

    #[test]
    fn it_stays_within_its_bytes() {
        let cache = Cache::new(100_000);
        for number in 0..1000u64 {
            let mut key = key();
            key.catalog = number;
            cache.insert(key, (), 10_000);
        }
        cache.entries.run_pending_tasks();
        assert!(cache.entries.weighted_size() <= 100_000);
    }
}
