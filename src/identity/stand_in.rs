//! Stand-ins for the verifiers of names that nobody has, so that a login by an
//! unknown name looks from outside like one by a known name: its salt and its
//! iterations are those that some identity could have, and the same whenever and
//! at whichever replica it is asked for.
//!
//! Knows nothing about the exchange. An unknown name takes after one of the real
//! verifiers, chosen by the highest keyed hash of the name (rendezvous hashing):
//! a policy in which one password has changed shows other salts for the few names
//! that took after that one, as if their passwords had changed, and for no others.
//! A key of the process would show new salts for all unknown names, and for them
//! alone, at each start; so would a key of all verifiers at each change.
//! Invariant: nothing about a stand-in can be told from a real verifier without
//! knowing a verifier.

use std::num::NonZeroU32;

use ring::hmac;

use super::verifier::{DEFAULT_ITERATIONS, KEY_LEN, SALT_LEN, Verifier, array, sha256};

/// So many verifiers at most are taken after: what is chosen from costs each login,
/// by known names too, a hash apiece.
const MODELS: usize = 64;

/// What unknown names take after.
#[derive(Debug, Default)]
pub struct StandIns {
    models: Vec<Model>,
}

/// What a real verifier looks like, and a secret of its own.
#[derive(Debug)]
struct Model {
    iterations: NonZeroU32,
    salt_len: usize,
    key: hmac::Key,
}

impl StandIns {
    /// After these verifiers, in any order.
    pub fn after<'a>(verifiers: impl IntoIterator<Item = &'a Verifier>) -> Self {
        let mut all: Vec<_> = verifiers
            .into_iter()
            // An order of their own, so that the same ones are taken as others come and go.
            .map(|verifier| (sha256(&verifier.server_key), verifier))
            .collect();
        all.sort_by_key(|(order, _)| *order);
        all.truncate(MODELS);
        let model = |(_, verifier): (_, &Verifier)| Model {
            iterations: verifier.iterations,
            salt_len: verifier.salt.len(),
            key: hmac::Key::new(hmac::HMAC_SHA256, &verifier.server_key),
        };
        Self {
            models: all.into_iter().map(model).collect(),
        }
    }

    /// The stand-in of a name: a verifier that no password matches.
    pub fn of(&self, name: &str) -> Verifier {
        let model = self
            .models
            .iter()
            .max_by_key(|model| hash(&model.key, b'?', 0, name));
        // Where nobody can log in there is nobody to look like.
        let iterations = NonZeroU32::new(DEFAULT_ITERATIONS).unwrap_or(NonZeroU32::MIN);
        let nobody = || hmac::Key::new(hmac::HMAC_SHA256, &[]);
        let (key, iterations, salt_len) = match model {
            Some(model) => (model.key.clone(), model.iterations, model.salt_len),
            None => (nobody(), iterations, SALT_LEN),
        };
        let salt = (0..=u8::MAX)
            .flat_map(|block| hash(&key, b's', block, name))
            .take(salt_len);
        Verifier {
            iterations,
            salt: salt.collect(),
            stored_key: hash(&key, b'k', 0, name),
            server_key: hash(&key, b'k', 1, name),
        }
    }
}

fn hash(key: &hmac::Key, what: u8, block: u8, name: &str) -> [u8; KEY_LEN] {
    let mut context = hmac::Context::with_key(key);
    context.update(&[what, block]);
    context.update(name.as_bytes());
    array(context.sign().as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verifiers(iterations: &[u32]) -> Vec<Verifier> {
        let derive = |&count: &u32| Verifier::derive("pencil", count).unwrap();
        iterations.iter().map(derive).collect()
    }

    #[test]
    fn a_name_has_one_stand_in_and_takes_after_somebody() {
        let mut real = verifiers(&[4096, 5000, 6000]);
        real[2].salt = vec![7; 33];
        let stand_ins = StandIns::after(&real);
        let seen: Vec<_> = (0..60)
            .map(|n| {
                let one = stand_ins.of(&format!("nobody{n}"));
                assert_eq!(one, stand_ins.of(&format!("nobody{n}")));
                (one.iterations.get(), one.salt.len())
            })
            .collect();
        for real in [(4096, 16), (5000, 16), (6000, 33)] {
            let like = seen.iter().filter(|seen| **seen == real).count();
            assert!((5..50).contains(&like), "{like} like {real:?}");
        }
        assert!(stand_ins.of("a").salt != stand_ins.of("b").salt);
    }

    #[test]
    fn the_order_of_identities_does_not_matter_and_a_change_matters_to_few() {
        let mut real = verifiers(&[4096; 8]);
        let before = StandIns::after(&real);
        real.reverse();
        let turned = StandIns::after(&real);
        real[3] = Verifier::derive("another", 4096).unwrap();
        let changed = StandIns::after(&real);
        let mut others = 0;
        for n in 0..200 {
            let name = format!("nobody{n}");
            assert_eq!(before.of(&name), turned.of(&name));
            others += usize::from(before.of(&name) != changed.of(&name));
        }
        // Those that took after the old one or take after the new one: 2 of 9.
        assert!((10..90).contains(&others), "{others} of 200");
    }

    #[test]
    fn nobody_to_look_like_is_no_fault() {
        let one = StandIns::default().of("nobody");
        assert_eq!((one.iterations.get(), one.salt.len()), (4096, 16));
    }
}
