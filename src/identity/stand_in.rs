//! Stand-ins for the credentials of names that nobody has, so that a login by an
//! unknown name looks from outside like one by a known name: it is asked for a password
//! or a token as some identity is, the password's salt and iterations are those that
//! some identity could have, and all of it is the same whenever and at whichever replica
//! it is asked for.
//!
//! Knows nothing about the exchange. An unknown name takes after one of the real
//! verifiers, chosen by the highest keyed hash of the name (rendezvous hashing):
//! a policy in which one password has changed shows other salts for the few names
//! that took after that one, as if their passwords had changed, and for no others.
//! A key of the process would show new salts for all unknown names, and for them
//! alone, at each start; so would a key of all verifiers at each change. An identity
//! that connects by tokens has no secret here; it borrows one verifier's.
//! Invariant: nothing about a stand-in can be told from a real verifier without
//! knowing a verifier.

use std::num::NonZeroU32;

use ring::hmac;

use super::verifier::{DEFAULT_ITERATIONS, KEY_LEN, SALT_LEN, Verifier, array, sha256};

/// So many verifiers at most are taken after: what is chosen from costs each login,
/// by known names too, a hash apiece.
const MODELS: usize = 64;

/// What unknown names take after.
#[derive(Clone, Debug, Default)]
pub struct StandIns {
    models: Vec<Model>,
    /// Of identities that connect by tokens.
    tokens: Vec<hmac::Key>,
    /// There are such, and no others.
    tokens_alone: bool,
}

/// What a real verifier looks like, and a secret of its own.
#[derive(Clone, Debug)]
struct Model {
    iterations: NonZeroU32,
    salt_len: usize,
    key: hmac::Key,
}

impl StandIns {
    /// After these verifiers and the names of those that connect by tokens, in any
    /// order.
    pub fn after<'a, 'b>(
        verifiers: impl IntoIterator<Item = &'a Verifier>,
        tokens: impl IntoIterator<Item = &'b str>,
    ) -> Self {
        let model = |verifier: &Verifier| Model {
            iterations: verifier.iterations,
            salt_len: verifier.salt.len(),
            key: hmac::Key::new(hmac::HMAC_SHA256, &verifier.server_key),
        };
        // An order of their own, so that the same ones are taken as others come and go.
        let mut models: Vec<_> = verifiers
            .into_iter()
            .map(|verifier| (sha256(&verifier.server_key), Some(model(verifier))))
            .collect();
        let mut names = tokens.into_iter().peekable();
        let tokens_alone = models.is_empty() && names.peek().is_some();
        let borrowed: Vec<_> = names
            .filter_map(|name| {
                let real = models.iter().filter_map(|(_, model)| model.as_ref());
                let lender = real.max_by_key(|model| hash(&model.key, b'l', 0, name))?;
                Some(hash(&lender.key, b't', 0, name))
            })
            .collect();
        models.extend(borrowed.into_iter().map(|secret| (secret, None)));
        models.sort_by_key(|(order, _)| *order);
        models.truncate(MODELS);
        let tokens = models.iter().filter(|(_, model)| model.is_none());
        Self {
            tokens: tokens
                .map(|(secret, _)| hmac::Key::new(hmac::HMAC_SHA256, secret))
                .collect(),
            models: models.into_iter().filter_map(|(_, model)| model).collect(),
            tokens_alone,
        }
    }

    /// Whether a name is asked for a token, not for a password.
    pub fn by_token(&self, name: &str) -> bool {
        let rank = |key: &hmac::Key| hash(key, b'?', 0, name);
        let best = self.models.iter().map(|model| rank(&model.key)).max();
        self.tokens_alone || self.tokens.iter().map(rank).max() > best
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
        let stand_ins = StandIns::after(&real, []);
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
        let before = StandIns::after(&real, []);
        real.reverse();
        let turned = StandIns::after(&real, []);
        real[3] = Verifier::derive("another", 4096).unwrap();
        let changed = StandIns::after(&real, []);
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
    fn as_many_are_asked_for_tokens_as_connect_by_them_and_a_change_matters_to_few() {
        let mut real = verifiers(&[4096; 6]);
        let names = ["job-1", "job-2", "job-3"];
        let before = StandIns::after(&real, names);
        real.reverse();
        let turned = StandIns::after(&real, names.into_iter().rev());
        real[3] = Verifier::derive("another", 4096).unwrap();
        let changed = StandIns::after(&real, names);
        let fewer = StandIns::after(&real, ["job-1", "job-2"]);
        let asked = |stand_ins: &StandIns| -> Vec<bool> {
            let names = (0..300).map(|n| format!("nobody{n}"));
            names.map(|name| stand_ins.by_token(&name)).collect()
        };
        let differ = |one: &StandIns, other: &StandIns| {
            let both = asked(one).into_iter().zip(asked(other));
            both.filter(|(one, other)| one != other).count()
        };
        let by_token = asked(&before).into_iter().filter(|is| *is).count();
        assert!((60..140).contains(&by_token), "{by_token} of 300");
        assert_eq!(differ(&before, &turned), 0);
        assert!((1..120).contains(&differ(&before, &changed)));
        assert!((1..80).contains(&differ(&changed, &fewer)));
    }

    #[test]
    fn where_all_connect_alike_so_does_nobody() {
        let real = verifiers(&[4096; 2]);
        let (passwords, tokens) = (StandIns::after(&real, []), StandIns::after([], ["a"]));
        for name in ["nobody", "x", "y", "z"] {
            assert!(!passwords.by_token(name) && tokens.by_token(name));
            assert!(!StandIns::default().by_token(name));
        }
    }

    #[test]
    fn nobody_to_look_like_is_no_fault() {
        let one = StandIns::default().of("nobody");
        assert_eq!((one.iterations.get(), one.salt.len()), (4096, 16));
    }
}
