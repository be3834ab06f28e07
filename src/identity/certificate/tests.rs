//! Certificates by authorities of the tests' own: taken, or not, and why.

#[path = "../../../tests/support/issue.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with other tests")]
pub(crate) mod issue;

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::CertificateDer;

use super::read::Fields;
use super::{Certificate, CertificateError, Presented, Trust, TrustError};
use issue::{Authority, Issued, Unusual};

/// Files of authorities and lists.
pub(crate) struct Files(tempfile::TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// What is verified by that authority and those lists.
    pub(crate) fn trust(
        &self,
        authorities: &[&Authority],
        lists: &[String],
    ) -> Result<Trust, TrustError> {
        let pem: String = authorities.iter().map(|one| one.pem()).collect();
        let ca = self.write("ca.pem", &pem);
        let lists = lists.iter().enumerate();
        let lists: Vec<_> = lists
            .map(|(at, list)| self.write(&format!("{at}.crl"), list))
            .collect();
        Trust::load(&ca, &lists, None)
    }
}

pub(crate) fn presented(issued: &Issued) -> Presented {
    Presented::new(&[issued.der.clone().into()]).unwrap()
}

fn verify(trust: &Trust, issued: &Issued) -> Result<Certificate, CertificateError> {
    trust.verify(&presented(issued), Timestamp::now())
}

#[test]
fn one_that_holds_says_who_shows_it() {
    let (files, authority) = (Files::new(), Authority::new("corp"));
    let trust = files.trust(&[&authority], &[]).unwrap();
    let names = ["cn:Ann Example", "dns:etl.corp", "email:ann@corp.example"];
    let issued = authority.issue(&names);
    let shown = verify(&trust, &issued).unwrap();
    let found: Vec<&str> = shown.names.iter().map(|name| name.as_str()).collect();
    assert_eq!(found, names);
    assert_eq!(&*shown.serial, "07");
    assert_eq!(shown.fingerprint.len(), 64);
    let left = Timestamp::now().duration_until(shown.expires);
    assert!((3590..=3600).contains(&left.as_secs()), "{left}");
    assert_eq!(shown.until, shown.expires + SignedDuration::from_secs(1));
    assert_eq!(shown.presented, presented(&issued));
    let record = serde_json::to_value(shown.by(&shown.names[1])).unwrap();
    let keys: Vec<&String> = record.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["expires", "fingerprint", "name", "serial"]);
    assert_eq!(record["name"], "dns:etl.corp");
    // What has a SPIFFE ID is known by that alone.
    let workload = authority.issue(&["cn:x", "dns:other.corp", "spiffe://corp/agent/trainer"]);
    let shown = verify(&trust, &workload).unwrap();
    assert_eq!(shown.names.len(), 1);
    assert_eq!(shown.names[0].as_str(), "spiffe://corp/agent/trainer");
    // Another URI is nobody's name.
    let web = authority.issue(&["uri:https://corp.example/ann", "dns:ann.corp"]);
    assert_eq!(
        verify(&trust, &web).unwrap().names[0].as_str(),
        "dns:ann.corp"
    );
}

#[test]
fn what_does_not_hold_says_why() {
    let (files, authority) = (Files::new(), Authority::new("corp"));
    let trust = files
        .trust(&[&authority], &[authority.list(&[13], 600)])
        .unwrap();
    let check = |issued: &Issued, expected: CertificateError| {
        assert_eq!(verify(&trust, issued).unwrap_err(), expected);
    };
    let name = ["spiffe://corp/agent/trainer"];
    let unusual = |unusual: Unusual| authority.unusual(&name, &unusual);
    check(
        &unusual(Unusual {
            until: -60,
            ..Unusual::default()
        }),
        CertificateError::Expired,
    );
    check(
        &unusual(Unusual {
            from: 60,
            ..Unusual::default()
        }),
        CertificateError::Early,
    );
    check(
        &unusual(Unusual {
            serial: 13,
            ..Unusual::default()
        }),
        CertificateError::Revoked,
    );
    check(
        &unusual(Unusual {
            for_servers: true,
            ..Unusual::default()
        }),
        CertificateError::Purpose,
    );
    // By another authority, be it of the same name.
    check(
        &Authority::new("other").issue(&name),
        CertificateError::Issuer,
    );
    check(
        &Authority::new("corp").issue(&name),
        CertificateError::Issuer,
    );
    let two = ["spiffe://corp/agent/a", "spiffe://corp/agent/b"];
    check(&authority.issue(&two), CertificateError::Uris);
    let two = ["spiffe://corp/agent/a", "uri:https://corp.example"];
    check(&authority.issue(&two), CertificateError::Uris);
    for uri in [
        "uri:spiffe://Corp/x",
        "uri:SPIFFE://corp/x",
        "uri:spiffe://corp",
        "uri:spiffe://corp/a/../b",
        "uri:spiffe:corp",
    ] {
        check(&authority.issue(&[uri]), CertificateError::Spiffe);
    }
    let zero = authority.issue(&["dns:a\0.corp"]);
    check(&zero, CertificateError::Malformed("its alternative names"));
    // Names that are none are nobody's.
    let nobody = authority.issue(&["dns:*.corp", "email:ann"]);
    assert_eq!(verify(&trust, &nobody).unwrap().names, []);
    // Two common names are none, and so is one that is not plain text.
    let names = |names: &[&str]| verify(&trust, &authority.issue(names)).unwrap().names;
    assert_eq!(names(&["also:ann"])[0].as_str(), "cn:ann");
    assert_eq!(names(&["cn:ann", "also:bob"]), []);
    assert_eq!(names(&["bmp:ann"]), []);
}

#[test]
fn who_may_vouch_for_some_names_alone_gives_no_common_name() {
    let (files, root) = (Files::new(), Authority::new("root"));
    let trust = files.trust(&[&root], &[]).unwrap();
    let below = root.within("below", "eng.corp");
    let verify = |trust: &Trust, names: &[&str], beside: &[Vec<u8>]| {
        let mut chain: Vec<CertificateDer<'_>> = vec![below.issue(names).der.into()];
        chain.extend(beside.iter().map(|one| one.clone().into()));
        let shown = trust.verify(&Presented::new(&chain).unwrap(), Timestamp::now())?;
        Ok(shown.names.iter().map(ToString::to_string).collect())
    };
    let names = ["cn:etl.corp", "dns:a.eng.corp"];
    let expected = Ok(vec!["dns:a.eng.corp".to_owned()]);
    assert_eq!(verify(&trust, &names, &[below.der()]), expected);
    let outside = verify(&trust, &["dns:a.corp"], &[below.der()]);
    assert!(
        matches!(outside, Err(CertificateError::Invalid(_))),
        "{outside:?}"
    );
    let itself = files.trust(&[&below], &[]).unwrap();
    assert_eq!(verify(&itself, &names, &[]), expected);
}

#[test]
fn what_has_been_verified_is_not_again_until_something_changes() {
    let (files, authority) = (Files::new(), Authority::new("corp"));
    let trust = files.trust(&[&authority], &[]).unwrap();
    let now = Timestamp::now();
    let mut shown = verify(&trust, &authority.issue(&["dns:a.corp"])).unwrap();
    let good = std::mem::replace(
        &mut shown.presented,
        Presented::new(&[vec![0].into()]).unwrap(),
    );
    // Whatever it is by now, it is not looked at.
    assert_eq!(trust.again(&shown, now).as_ref(), Ok(&shown));
    let later = shown.until;
    assert!(trust.again(&shown, later).is_err());
    let next = files.trust(&[&authority], &[]).unwrap();
    assert!(next.again(&shown, now).is_err());
    shown.presented = good;
    assert!(next.again(&shown, now).is_ok());
    assert_eq!(trust.again(&shown, later), Err(CertificateError::Expired));
    // The one that was taken first knows of it.
    shown.presented = Presented::new(&[vec![0].into()]).unwrap();
    assert!(next.again(&shown, now).is_ok());
    assert!(trust.again(&shown, now).is_err());
}

#[test]
fn lists_of_revocations_must_tell_of_the_whole_chain_and_be_in_date() {
    let (files, root) = (Files::new(), Authority::new("root"));
    let below = root.below("below");
    let issued = below.issue(&["dns:a.corp"]);
    let chain: [CertificateDer<'_>; 2] = [issued.der.clone().into(), below.der().into()];
    let chain = Presented::new(&chain).unwrap();
    let now = Timestamp::now();
    let verify = |lists: &[String]| files.trust(&[&root], lists).unwrap().verify(&chain, now);
    assert!(verify(&[]).is_ok());
    let (of_root, of_below) = (root.list(&[], 600), below.list(&[], 300));
    let shown = verify(&[of_root.clone(), of_below.clone()]).unwrap();
    let left = now.duration_until(shown.until);
    assert!((290..=300).contains(&left.as_secs()), "{left}");
    assert_eq!(
        verify(std::slice::from_ref(&of_root)),
        Err(CertificateError::Unlisted)
    );
    assert_eq!(verify(&[of_below]), Err(CertificateError::Unlisted));
    let old = below.list(&[], -60);
    assert_eq!(
        verify(&[of_root.clone(), old]),
        Err(CertificateError::Outdated)
    );
    let taken_back = below.list(&[7], 600);
    assert_eq!(
        verify(&[of_root.clone(), taken_back]),
        Err(CertificateError::Revoked)
    );
    // One that somebody else has signed.
    let forged = Authority::new("below").list(&[], 600);
    assert_eq!(verify(&[of_root, forged]), Err(CertificateError::Unlisted));
}

#[test]
fn files_that_are_of_no_use_are_named() {
    let (files, authority) = (Files::new(), Authority::new("corp"));
    let check = |lists: &[String], expected: &str| {
        let error = files.trust(&[&authority], lists).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let list = authority.list(&[], 600);
    check(&["nothing".into()], "0.crl: no list of revocations in it");
    check(&[authority.pem()], "0.crl: no list of revocations in it");
    check(
        &[list.clone(), authority.list(&[7], 600)],
        "1.crl: a second list of one authority",
    );
    check(
        &[format!("{list}{list}")],
        "0.crl: a second list of one authority",
    );
    let none = files.trust(&[], &[]).unwrap_err().to_string();
    assert!(none.contains("ca.pem: no certificate in it"), "{none}");
    let missing = Trust::load(&files.0.path().join("none.pem"), &[], None).unwrap_err();
    assert!(missing.to_string().contains("none.pem: "), "{missing}");
}

#[test]
fn an_older_list_pardons_nobody() {
    let (files, authority) = (Files::new(), Authority::new("corp"));
    let now = files
        .trust(&[&authority], &[authority.list(&[7], 600)])
        .unwrap();
    let (ca, list) = (files.0.path().join("ca.pem"), "list.crl");
    let after = |text: &str| {
        let lists = [files.write(list, text)];
        Trust::load(&ca, &lists, Some(&now))
    };
    let issued = authority.issue(&["dns:a.corp"]);
    let stays = |text: &str, why: &str| {
        let trust = after(text).unwrap();
        let [fault] = trust.faults() else {
            panic!("{:?}", trust.faults())
        };
        assert!(
            fault.contains("list.crl: ") && fault.contains(why),
            "{fault}"
        );
        // That in force stays so, alone.
        assert_eq!(verify(&trust, &issued), Err(CertificateError::Revoked));
    };
    stays(&authority.list_of(-7200, &[], 600), "older than");
    stays("nothing", "no list of revocations in it");
    let newer = after(&authority.list(&[], 600)).unwrap();
    assert!(newer.faults().is_empty() && verify(&newer, &issued).is_ok());
    // A date counts for nothing that is yet to come, or signed by somebody else.
    let future = authority.list_of(3600, &[], 7200);
    let forged = Authority::new("corp").list_of(-60, &[], 600);
    stays(&future, "which is yet to come");
    stays(&forged, "did not sign");
    let alone = |list: &str| files.trust(&[&authority], &[list.into()]).unwrap_err();
    assert!(alone(&future).to_string().contains("yet to come"));
    assert!(alone(&forged).to_string().contains("did not sign"));
    // Another authority's is its own: of this one's, nothing has been said to be wrong.
    let other = Authority::new("other").list_of(-7200, &[], 600);
    let other = after(&other).unwrap();
    assert!(other.faults().is_empty());
    assert_eq!(verify(&other, &issued), Err(CertificateError::Unlisted));
}

#[test]
fn what_is_revoked_is_taken_though_another_file_does_not_load() {
    let files = Files::new();
    let (one, two) = (Authority::new("one"), Authority::new("two"));
    let (of_one, of_two) = (one.list(&[], 600), two.list(&[7], 600));
    let now = files.trust(&[&one, &two], &[of_one, of_two]).unwrap();
    let path = |name: &str| files.0.path().join(name);
    let lists = [path("0.crl"), path("1.crl"), path("none.crl")];
    assert!(now.revoking(&lists).is_none());
    files.write("0.crl", &one.list_of(-60, &[7], 600));
    files.write("1.crl", &two.list_of(-7200, &[], 600));
    files.write("ca.pem", "nobody");
    assert!(Trust::load(&path("ca.pem"), &lists, Some(&now)).is_err());
    let (by_one, by_two) = (one.issue(&["dns:a.corp"]), two.issue(&["dns:a.corp"]));
    assert!(verify(&now, &by_one).is_ok());
    let then = now.revoking(&lists).unwrap();
    assert_eq!(verify(&then, &by_one), Err(CertificateError::Revoked));
    // An older list of one is no reason not to take another's, nor pardons.
    assert_eq!(verify(&then, &by_two), Err(CertificateError::Revoked));
    assert!(then.revoking(&lists).is_none());
}

#[test]
fn an_authority_that_has_expired_vouches_for_nobody() {
    let files = Files::new();
    let (old, ends) = (Authority::until("old", -60), Authority::until("ends", 60));
    let none = files.trust(&[&old], &[]).unwrap_err().to_string();
    assert!(
        none.contains("ca.pem: every authority in it has expired"),
        "{none}"
    );
    let trust = files.trust(&[&old, &ends], &[]).unwrap();
    let [fault] = trust.faults() else {
        panic!("{:?}", trust.faults())
    };
    assert!(
        fault.contains("ca.pem: an authority in it has expired"),
        "{fault}"
    );
    let name = ["dns:a.corp"];
    assert_eq!(
        verify(&trust, &old.issue(&name)),
        Err(CertificateError::Issuer)
    );
    let issued = ends.issue(&name);
    let left = verify(&trust, &issued).unwrap().until;
    let left = Timestamp::now().duration_until(left).as_secs();
    assert!((50..=61).contains(&left), "{left}");
    let later = Timestamp::now() + SignedDuration::from_secs(62);
    let later = |trust: &Trust| trust.verify(&presented(&issued), later);
    assert_eq!(later(&trust), Err(CertificateError::Issuer));
    // Of several, the others are authorities as before.
    let trust = files.trust(&[&ends, &Authority::new("corp")], &[]).unwrap();
    assert_eq!(later(&trust), Err(CertificateError::Issuer));
    assert_eq!(later(&trust), Err(CertificateError::Issuer));
}

/// All orders of many certificates are tried: by somebody who has issued all of them, too.
#[test]
fn a_chain_is_short() {
    let (files, authority) = (Files::new(), Authority::new("corp"));
    let trust = files.trust(&[&authority], &[]).unwrap();
    let verify = |issued: &Issued, beside: &[Vec<u8>]| {
        let mut chain: Vec<CertificateDer<'_>> = vec![issued.der.clone().into()];
        chain.extend(beside.iter().map(|one| one.clone().into()));
        let chain = Presented::new(&chain).unwrap();
        trust.verify(&chain, Timestamp::now())
    };
    let below = authority.below("below");
    let issued = below.issue(&["dns:a.corp"]);
    let junk = |count: usize| (0..count).map(|_| Authority::new("x").der());
    let beside = |count| junk(count).chain([below.der()]).collect::<Vec<_>>();
    assert!(verify(&issued, &beside(4)).is_ok());
    let too_long = CertificateError::Malformed("its chain is too long");
    assert_eq!(verify(&issued, &beside(5)), Err(too_long.clone()));
    let own = Authority::new("x").issue(&["dns:a.corp"]);
    let began = std::time::Instant::now();
    let all: Vec<_> = junk(9).chain((0..100).map(|_| below.der())).collect();
    assert_eq!(verify(&own, &all), Err(too_long));
    let most: Vec<_> = junk(5).collect();
    assert_eq!(verify(&own, &most), Err(CertificateError::Issuer));
    assert!(began.elapsed() < std::time::Duration::from_secs(5));
}

/// Whatever bytes are shown, nothing panics, and what is taken is what was issued.
#[test]
fn no_change_of_a_byte_is_taken() {
    let (files, authority) = (Files::new(), Authority::new("corp"));
    let trust = files.trust(&[&authority], &[]).unwrap();
    let issued = authority.issue(&["spiffe://corp/agent/trainer", "cn:x"]);
    let now = Timestamp::now();
    for at in 0..issued.der.len() {
        for bit in 0..8 {
            let mut der = issued.der.clone();
            der[at] ^= 1 << bit;
            let _ = Fields::read(&der);
            let changed = Presented::new(&[der.into()]).unwrap();
            assert!(trust.verify(&changed, now).is_err(), "byte {at} bit {bit}");
        }
        let _ = Fields::read(&issued.der[..at]);
        let short = Presented::new(&[issued.der[..at].to_vec().into()]).unwrap();
        assert!(trust.verify(&short, now).is_err(), "{at} bytes");
    }
}
