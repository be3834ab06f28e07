//! Who fails to log in too often waits: by where they come from, and by whom they claim
//! to be.
//!
//! Knows nothing about credentials. Invariants: memory is bounded, whoever connects under
//! whatever names; failures under a name make others wait, refused only where many wait;
//! whoever waits and then proves nothing has failed, as far as their source goes; a name
//! that nobody has counts as one that somebody has.
//!
//! A *source* is an IPv4 address, or the 64 bits of an IPv6 address that one network has.
//! One that has failed too often is refused for a while, twice as long with each failure
//! after that; one failure is forgotten in each time of the longest pause. Many people may
//! share one (a company's NAT): who has logged in from there is never refused for what
//! others do there, and waits by what has failed under that name and from there alone. All
//! of this machine is one address, so there a source is the name: a job with an old
//! password stops nobody else.
//!
//! Certificates are not guessed at, so no name fails by them, but each takes time to verify:
//! a source that shows many that do not hold may show none for a while, by a count apart.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Refused;
use super::refused::Fault;
use crate::config::Failures;

/// So many of a kind are remembered; of more, those with few failures go first, then the
/// oldest.
const MOST: usize = 1 << 14;
/// The longest that a name's failures make anybody wait, and the part of the time they
/// have to log in that they wait at most.
const LONGEST_WAIT: Duration = Duration::from_secs(4);
const PART_OF_TIME: u32 = 2;
/// So many wait at a time under one name, and so many of them from one source; more are
/// refused at once. Whoever wants to keep others from waiting needs many sources.
const MOST_WAITING: u32 = 64;
const MOST_WAITING_THERE: u32 = 2;
/// So many failures beyond the limit count: enough for the longest pause, and few enough to
/// be forgotten.
const MOST_BEYOND: u32 = 20;

/// What all connections pass.
#[derive(Debug)]
pub(super) struct Throttle {
    limits: Failures,
    longest_wait: Duration,
    /// Names and addresses are kept as numbers that nobody can choose.
    hasher: RandomState,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    sources: HashMap<u64, Count>,
    names: HashMap<u64, Count>,
    /// Those who have logged in, by name and source: failures since.
    known: HashMap<u64, Count>,
    /// How many wait: under a name, and under a name from a source.
    waiting: HashMap<u64, u32>,
}

/// How often something has failed.
#[derive(Clone, Copy, Debug)]
struct Count {
    failures: u32,
    last: Instant,
}

/// One attempt to log in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt<'a> {
    throttle: &'a Throttle,
    peer: IpAddr,
    source: u64,
    /// The source, as far as certificates go.
    shows: u64,
    name: u64,
    known: u64,
    waited: bool,
}

/// Somebody who waits, until dropped.
#[derive(Debug)]
struct Waiting<'a> {
    throttle: &'a Throttle,
    places: Vec<u64>,
}

impl Throttle {
    /// Within those limits, for clients that have so much time to log in.
    pub(super) fn new(limits: Failures, time: Duration) -> Arc<Self> {
        Arc::new(Self {
            limits,
            longest_wait: LONGEST_WAIT.min(time / PART_OF_TIME),
            hasher: RandomState::new(),
            counts: Mutex::default(),
        })
    }

    /// An attempt from there, under that name.
    pub(super) fn attempt(&self, peer: IpAddr, name: &str) -> Attempt<'_> {
        let peer = peer.to_canonical();
        let network = match peer {
            // One of 16 million, of which any program here may have each.
            _ if peer.is_loopback() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V4(_) => peer,
            IpAddr::V6(own) => IpAddr::V6(Ipv6Addr::from_bits(own.to_bits() & (u128::MAX << 64))),
        };
        let whose = match peer.is_loopback() {
            true => Some(name),
            false => None,
        };
        Attempt {
            throttle: self,
            peer,
            source: self.hasher.hash_one((network, whose)),
            shows: self.hasher.hash_one((network, whose, "certificates")),
            name: self.hasher.hash_one(name),
            known: self.hasher.hash_one((network, name)),
            waited: false,
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long what has failed so often is kept waiting after each failure.
    fn pause(&self, failures: u32, limit: u32) -> Duration {
        let Some(beyond) = failures.checked_sub(limit) else {
            return Duration::ZERO;
        };
        let doubled = 1u32.checked_shl(beyond).unwrap_or(u32::MAX);
        let pause = self.limits.pause.saturating_mul(doubled);
        pause.min(self.limits.longest)
    }

    /// How many failures are left that have not been forgotten.
    fn left(&self, count: &Count, now: Instant) -> u32 {
        let since = now.saturating_duration_since(count.last).as_millis();
        let forgotten = since / self.limits.longest.as_millis().max(1);
        let forgotten = u32::try_from(forgotten).unwrap_or(u32::MAX);
        count.failures.saturating_sub(forgotten)
    }

    /// One more failure.
    fn count(&self, of: &mut HashMap<u64, Count>, key: u64, limit: u32, now: Instant) {
        let before = of.get(&key).map_or(0, |count| self.left(count, now));
        let most = limit.saturating_add(MOST_BEYOND);
        if of.len() >= MOST && !of.contains_key(&key) {
            of.retain(|_, count| self.left(count, now) > 0);
            make_room(of, |count| (count.failures, count.last));
        }
        put(of, key, before.saturating_add(1).min(most), now);
    }
}

fn put(of: &mut HashMap<u64, Count>, key: u64, failures: u32, now: Instant) {
    let last = now;
    of.insert(key, Count { failures, last });
}

/// Where there are too many, without those that come first: a quarter at a time, for sorting
/// them for each would be work that others can cause.
fn make_room<K: Ord>(of: &mut HashMap<u64, Count>, order: impl Fn(&Count) -> K) {
    if of.len() < MOST {
        return;
    }
    let mut all: Vec<_> = of.iter().map(|(key, count)| (order(count), *key)).collect();
    all.sort_unstable();
    for (_, key) in all.into_iter().take(MOST / 4) {
        of.remove(&key);
    }
}

impl<'a> Attempt<'a> {
    /// Waits as long as failures under that name ask for; then it is one that has waited.
    ///
    /// # Errors
    /// Where too much has failed from there, or too many wait.
    pub(super) async fn begin(self) -> Result<Self, Refused> {
        let Some((pause, waiting)) = self.enter(Instant::now())? else {
            return Ok(self);
        };
        tokio::time::sleep(pause).await;
        drop(waiting);
        Ok(Self {
            waited: true,
            ..self
        })
    }

    /// Asked before a certificate is looked at.
    ///
    /// # Errors
    /// Where too many from there did not hold.
    pub(super) fn show(&self) -> Result<(), Refused> {
        let counts = self.throttle.counts();
        self.unless_refused(&counts, self.shows, Instant::now())
    }

    /// Asked again before a credential is looked at: of many attempts at once, those that
    /// come after the first failures are not.
    ///
    /// # Errors
    /// Where too much has failed meanwhile.
    pub(super) fn go_on(&self) -> Result<(), Refused> {
        self.go_on_at(Instant::now())
    }

    fn go_on_at(&self, now: Instant) -> Result<(), Refused> {
        let counts = self.throttle.counts();
        self.unless_refused(&counts, self.source, now)?;
        match self.waited || self.pause(&counts, now).is_zero() {
            true => Ok(()),
            false => Err(Refused::Crowded),
        }
    }

    /// It has ended so.
    pub(super) fn ended(&self, why: &Refused) {
        self.ended_at(why, Instant::now());
    }

    /// It has proved who it is.
    pub(super) fn proved(&self) {
        let known = &mut self.throttle.counts().known;
        if !known.contains_key(&self.known) {
            make_room(known, |count| count.last);
        }
        put(known, self.known, 0, Instant::now());
    }

    fn ended_at(&self, why: &Refused, now: Instant) {
        match why.fault() {
            Fault::None => {}
            Fault::Guess => self.failed_at(now),
            Fault::Certificate => self.blame(self.shows, now),
            Fault::Silence => {
                let slow = !self.pause(&self.throttle.counts(), now).is_zero();
                if slow {
                    self.blame(self.source, now);
                }
            }
        }
    }

    fn blame(&self, source: u64, now: Instant) {
        let (throttle, limit) = (self.throttle, self.throttle.limits.per_source);
        throttle.count(&mut throttle.counts().sources, source, limit, now);
    }

    fn failed_at(&self, now: Instant) {
        self.blame(self.source, now);
        let (throttle, mut counts) = (self.throttle, self.throttle.counts());
        let limit = throttle.limits.per_identity;
        throttle.count(&mut counts.names, self.name, limit, now);
        if self.is_known(&counts) {
            throttle.count(&mut counts.known, self.known, limit, now);
        }
    }

    /// Whether somebody has logged in by that name from there.
    fn is_known(&self, counts: &Counts) -> bool {
        counts.known.contains_key(&self.known)
    }

    /// How long failures make it wait: those under that name from there, of who is known
    /// there; of anybody else, all under that name.
    fn pause(&self, counts: &Counts, now: Instant) -> Duration {
        let (throttle, own) = (self.throttle, counts.known.get(&self.known));
        let count = own.or_else(|| counts.names.get(&self.name));
        let failures = count.map_or(0, |count| throttle.left(count, now));
        let pause = throttle.pause(failures, throttle.limits.per_identity);
        pause.min(throttle.longest_wait)
    }

    fn unless_refused(&self, counts: &Counts, source: u64, now: Instant) -> Result<(), Refused> {
        let throttle = self.throttle;
        let Some(count) = counts.sources.get(&source) else {
            return Ok(());
        };
        let pause = throttle.pause(count.failures, throttle.limits.per_source);
        let left = pause.saturating_sub(now.saturating_duration_since(count.last));
        if left.is_zero() || self.is_known(counts) {
            return Ok(());
        }
        Err(Refused::Throttled {
            peer: self.peer,
            // Rounded up.
            seconds: left.as_secs().saturating_add(1),
        })
    }

    /// How long to wait, if at all.
    fn enter(&self, now: Instant) -> Result<Option<(Duration, Waiting<'a>)>, Refused> {
        let (throttle, mut counts) = (self.throttle, self.throttle.counts());
        self.unless_refused(&counts, self.source, now)?;
        let pause = self.pause(&counts, now);
        if pause.is_zero() {
            return Ok(None);
        }
        // Who is known there takes nobody else's place.
        let mut places = vec![(self.known, MOST_WAITING_THERE)];
        if !self.is_known(&counts) {
            places.push((self.name, MOST_WAITING));
        }
        let waiting = |place| counts.waiting.get(place).copied().unwrap_or_default();
        if places.iter().any(|(place, most)| waiting(place) >= *most) {
            return Err(Refused::Crowded);
        }
        let places: Vec<u64> = places.into_iter().map(|(place, _)| place).collect();
        for place in &places {
            *counts.waiting.entry(*place).or_default() += 1;
        }
        Ok(Some((pause, Waiting { throttle, places })))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let waiting = &mut self.throttle.counts().waiting;
        for place in &self.places {
            let left = waiting.remove(place).unwrap_or_default().saturating_sub(1);
            if left > 0 {
                waiting.insert(*place, left);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::certificate::CertificateError;

    const LIMITS: Failures = Failures {
        per_source: 3,
        per_identity: 5,
        pause: Duration::from_secs(1),
        longest: Duration::from_secs(60),
    };

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    /// For how many seconds an attempt is refused.
    fn refused(attempt: &Attempt<'_>, now: Instant) -> Option<u64> {
        match attempt.enter(now) {
            Ok(_) => None,
            Err(Refused::Throttled { seconds, .. }) => Some(seconds - 1),
            Err(other) => panic!("{other}"),
        }
    }

    fn waits(attempt: &Attempt<'_>, now: Instant) -> u64 {
        let waiting = attempt.enter(now).unwrap();
        waiting.map_or(0, |(pause, _)| pause.as_secs())
    }

    fn peer(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_source_is_refused_for_twice_as_long_each_time() {
        let throttle = Throttle::new(LIMITS, seconds(10));
        let mut now = Instant::now();
        let one = throttle.attempt(peer("10.0.0.1"), "analyst");
        for _ in 0..2 {
            one.failed_at(now);
            assert_eq!(refused(&one, now), None);
        }
        for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
            one.failed_at(now);
            assert_eq!(refused(&one, now), Some(pause));
            // Whoever else is there too; nobody elsewhere.
            let other = throttle.attempt(peer("10.0.0.1"), "trainer");
            assert_eq!(refused(&other, now), Some(pause));
            let elsewhere = throttle.attempt(peer("10.0.0.2"), "trainer");
            assert_eq!(refused(&elsewhere, now), None);
            now += seconds(pause);
            assert_eq!(refused(&one, now), None);
        }
        // One is forgotten each minute: whoever fails less often is not refused.
        now += seconds(60 * 30);
        for _ in 0..100 {
            one.failed_at(now);
            assert_eq!(refused(&one, now), None);
            now += seconds(61);
        }
    }

    #[test]
    fn a_source_is_an_address_a_network_or_here_a_name() {
        let throttle = Throttle::new(LIMITS, seconds(10));
        let now = Instant::now();
        let fail = |peer: &str, name: &str| {
            let peer = peer.parse().unwrap();
            (0..4).for_each(|_| throttle.attempt(peer, name).failed_at(now));
        };
        let is_refused = |at: &str, name: &str| {
            let attempt = throttle.attempt(peer(at), name);
            refused(&attempt, now).is_some()
        };
        fail("2001:db8::1", "a");
        assert!(is_refused("2001:db8::ffff", "b"));
        assert!(!is_refused("2001:db8:0:1::1", "b"));
        fail("::ffff:10.0.0.1", "a");
        assert!(is_refused("10.0.0.1", "b"));
        fail("127.0.0.1", "a");
        assert!(is_refused("127.0.0.1", "a"));
        assert!(!is_refused("127.0.0.1", "b"));
        // Whoever is here has all of these.
        for here in ["127.0.0.2", "127.200.0.1", "::1", "::ffff:127.0.0.1"] {
            assert!(is_refused(here, "a") && !is_refused(here, "b"), "{here}");
        }
    }

    #[test]
    fn a_name_makes_others_wait_and_locks_nobody_out() {
        let throttle = Throttle::new(LIMITS, seconds(10));
        let now = Instant::now();
        let home = throttle.attempt(peer("10.1.0.1"), "analyst");
        home.proved();
        // A thousand sources, each within its own limit.
        for n in 0..1000u32 {
            let from = IpAddr::from((0x0b00_0000 + n).to_be_bytes());
            throttle.attempt(from, "analyst").failed_at(now);
        }
        let new = throttle.attempt(peer("10.1.0.2"), "analyst");
        assert_eq!(waits(&new, now), 4);
        assert_eq!(waits(&home, now), 0);
        assert_eq!(waits(&throttle.attempt(peer("10.1.0.2"), "other"), now), 0);
        // So many wait at a time, from one place or from all; who has waited leaves room.
        let mut waiting: Vec<_> = (0..2).map(|_| new.enter(now).unwrap()).collect();
        assert!(matches!(new.enter(now), Err(Refused::Crowded)));
        assert!(home.enter(now).unwrap().is_none());
        waiting.pop();
        waiting.push(new.enter(now).unwrap());
        let others: Vec<_> = (0..64u8)
            .map(|n| throttle.attempt([10, 2, 0, n].into(), "analyst"))
            .collect();
        waiting.extend(others.iter().take(62).map(|one| one.enter(now).unwrap()));
        assert!(matches!(others[63].enter(now), Err(Refused::Crowded)));
        drop(waiting);
        assert!(others[63].enter(now).is_ok());
        assert!(throttle.counts().waiting.is_empty());
        assert_eq!(waits(&new, now + seconds(60 * 25)), 0);
    }

    #[test]
    fn who_has_logged_in_from_there_is_let_through_until_it_fails() {
        let throttle = Throttle::new(LIMITS, seconds(10));
        let now = Instant::now();
        let shared = peer("10.0.0.1");
        let (good, bad) = (
            throttle.attempt(shared, "analyst"),
            throttle.attempt(shared, "guessed"),
        );
        good.proved();
        (0..4).for_each(|_| bad.failed_at(now));
        assert_eq!(refused(&good, now), None);
        assert!(refused(&bad, now).is_some() && bad.go_on_at(now).is_err());
        // Guessing at it is no way around: that makes it wait, two at a time, and lets
        // none go on that began before.
        (0..4).for_each(|_| good.failed_at(now));
        assert_eq!(waits(&good, now), 0);
        assert!(good.go_on_at(now).is_ok());
        (0..50).for_each(|_| good.failed_at(now));
        assert!(matches!(good.go_on_at(now), Err(Refused::Crowded)));
        let waiting: Vec<_> = (0..2).map(|_| good.enter(now).unwrap()).collect();
        assert!(
            waiting
                .iter()
                .flatten()
                .all(|(pause, _)| *pause == seconds(4))
        );
        assert!(matches!(good.enter(now), Err(Refused::Crowded)));
        drop(waiting);
        let waited = Attempt {
            waited: true,
            ..good
        };
        assert!(waited.go_on_at(now).is_ok());
        // It passes, as all failures do.
        assert_eq!(waits(&good, now + seconds(60 * 25)), 0);
        assert_eq!(refused(&good, now + seconds(60 * 25)), None);
    }

    #[test]
    fn who_waits_and_proves_nothing_has_failed() {
        let throttle = Throttle::new(LIMITS, seconds(10));
        let now = Instant::now();
        let gone = |attempt: &Attempt<'_>| attempt.ended_at(&Refused::Gone, now);
        let psql = throttle.attempt(peer("10.0.0.1"), "analyst");
        // Asked for a password, psql goes and asks its user: no failure, where nobody waits.
        (0..50).for_each(|_| gone(&psql));
        assert_eq!(refused(&psql, now), None);
        for n in 0..20 {
            throttle
                .attempt([11, 0, 0, n].into(), "analyst")
                .failed_at(now);
        }
        // Some sources that hold places and say nothing are refused soon, each by itself.
        for n in 0..32 {
            let holds = throttle.attempt([10, 2, 0, n].into(), "analyst");
            for why in [Refused::Gone, Refused::SlowAuthentication, Refused::Sasl] {
                assert_eq!(waits(&holds, now), 4);
                holds.ended_at(&why, now);
            }
            assert!(refused(&holds, now).is_some());
        }
        // What is refused already is not counted again, and the name no more than before.
        let before = throttle.counts().names[&psql.name].failures;
        (0..9).for_each(|_| psql.ended_at(&Refused::Crowded, now));
        assert_eq!(refused(&psql, now), None);
        assert_eq!(before, throttle.counts().names[&psql.name].failures);
    }

    #[test]
    fn certificates_that_do_not_hold_are_counted_apart() {
        let throttle = Throttle::new(LIMITS, seconds(10));
        let now = Instant::now();
        let one = throttle.attempt(peer("10.0.0.1"), "analyst");
        let why = Refused::Certificate(CertificateError::Revoked);
        (0..9).for_each(|_| one.ended_at(&why, now));
        assert!(matches!(one.show(), Err(Refused::Throttled { .. })));
        let other = throttle.attempt(peer("10.0.0.1"), "trainer");
        assert!(other.show().is_err());
        assert!(throttle.attempt(peer("10.0.0.2"), "analyst").show().is_ok());
        // Passwords are another matter, and nobody waits for what another has shown.
        assert_eq!(waits(&one, now), 0);
        assert!(one.go_on_at(now).is_ok());
        other.proved();
        assert!(other.show().is_ok());
        // Nor do guesses keep certificates from being shown.
        let guesses = throttle.attempt(peer("10.0.0.3"), "analyst");
        (0..9).for_each(|_| guesses.failed_at(now));
        assert!(guesses.show().is_ok() && guesses.enter(now).is_err());
    }

    #[test]
    fn memory_is_bounded_and_the_worst_are_kept() {
        let throttle = Throttle::new(LIMITS, seconds(10));
        let now = Instant::now();
        let worst = throttle.attempt(peer("10.0.0.1"), "analyst");
        (0..9).for_each(|_| worst.failed_at(now));
        for n in 0..50_000u32 {
            let from = IpAddr::from((0x0b00_0000 + n).to_be_bytes());
            let attempt = throttle.attempt(from, &n.to_string());
            attempt.failed_at(now);
            attempt.proved();
        }
        let counts = throttle.counts();
        for map in [&counts.sources, &counts.names, &counts.known] {
            assert!(map.len() <= MOST, "{}", map.len());
        }
        drop(counts);
        assert!(refused(&worst, now).is_some());
        // The last to have logged in are known.
        let last = throttle.attempt([0x0b, 0, 0xc3, 0x4f].into(), "49999");
        assert!(last.is_known(&throttle.counts()));
    }
}
