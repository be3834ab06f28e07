//! An upstream that is not there.

use std::time::{Duration, Instant};

use super::support::client::{By, refusal, show};
use super::support::forwarder::Forwarder;
use super::support::proxy::Setup;
use super::{proxy, server};

fn by(way: &Forwarder) -> String {
    let port = way.address.port();
    format!(
        "{{ host: 127.0.0.1, port: {port}, dbname: postgres, user: proxy, tls: {{ mode: disable }} }}"
    )
}

#[test]
fn a_login_while_upstream_is_down_hears_it_and_the_next_one_gets_in() {
    let mut way = Forwarder::to(server().port);
    way.open();
    let proxy = proxy(&Setup {
        upstream: Some(by(&way)),
        ..Setup::default()
    });
    let mut lost = proxy.client("analyst");
    let mut busy = proxy.client("analyst");
    busy.ask("SELECT pg_sleep(30)", By::Simple);
    std::thread::sleep(Duration::from_millis(300));
    way.close();
    assert_eq!(refusal(&lost.answer()).unwrap(), "08006", "while idle");
    assert_eq!(refusal(&busy.answer()).unwrap(), "08006", "in a query");
    assert_eq!(proxy.login("analyst", &[]).err().unwrap(), "08001");
    let denials = proxy.events("denial");
    assert_eq!(denials[0]["sqlstate"], "08001");
    let executions = proxy.events_soon("statement", 1);
    assert_eq!(executions[0]["sqlstate"], "08006");
    way.open();
    let answer = proxy
        .client("analyst")
        .run("SELECT id FROM customers", By::Simple);
    assert_eq!(refusal(&answer), None, "{}", show(&answer));
}

#[test]
fn a_dataset_that_is_down_at_the_start_does_not_stop_the_others() {
    let mut way = Forwarder::to(server().port);
    let here = format!(
        "{{ host: \"{}\", port: {}, dbname: postgres, user: proxy }}",
        server().directory.display(),
        server().port
    );
    let proxy = proxy(&Setup {
        // The dataset `shop` is down; `other` is not.
        upstream: Some(format!("{}\n  other:\n    upstream: {here}", by(&way))),
        ..Setup::default()
    });
    assert_eq!(proxy.login("analyst", &[]).err().unwrap(), "57P03");
    // Policy grants nothing there, which is another answer than that it is down.
    let other = proxy.login("analyst", &[("database", "other")]);
    assert_eq!(other.err().unwrap(), "42501");
    assert!(proxy.log().contains("not available yet"), "{}", proxy.log());
    way.open();
    let end = Instant::now() + Duration::from_secs(20);
    let mut client = loop {
        match proxy.login("analyst", &[]) {
            Ok(client) => break client,
            Err(state) => assert_eq!(state, "57P03"),
        }
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(200));
    };
    let answer = client.run("SELECT email FROM customers", By::Simple);
    assert!(
        show(&answer).contains("o***@example.com"),
        "{}",
        show(&answer)
    );
}
