//! A catalog that changes under a session.

use super::support::*;

/// What the tripwire says of a relation that the catalog does not know.
const UNKNOWN: &str = "ERROR:42501 Z:I";

#[tokio::test]
async fn ddl_is_seen_by_the_next_statement() {
    let proxy = Proxy::start().await;
    proxy.trial.change(|rules| rules.unseen = vec![1]);
    let mut raw = proxy.raw().await;
    // All sent at once: the last waits for the catalog to be read again.
    let select = "SELECT made FROM made_here";
    raw.send(&[q("CREATE TABLE made_here (made int)"), q(select)])
        .await;
    assert_eq!(raw.answer().await, "C:CREATE_TABLE Z:I");
    assert_eq!(raw.answer().await, "T C:SELECT_0 Z:I");
    assert_eq!(proxy.records("catalog_refresh").len(), 1);
    // Another session has it as well.
    assert_eq!(
        proxy.raw().await.ask(&[q(select)]).await,
        "T C:SELECT_0 Z:I"
    );
    // In a transaction, once it is committed.
    raw.ask(&[q("BEGIN")]).await;
    raw.ask(&[q("CREATE TABLE made_later (made int)")]).await;
    raw.ask(&[q("COMMIT")]).await;
    let later = "SELECT made FROM made_later";
    assert_eq!(raw.ask(&[q(later)]).await, "T C:SELECT_0 Z:I");
    // Rolled back: nothing has changed, and reading once more does no harm.
    raw.ask(&[q("BEGIN")]).await;
    raw.ask(&[q("DROP TABLE made_later")]).await;
    raw.ask(&[q("ROLLBACK")]).await;
    assert_eq!(raw.ask(&[q(later)]).await, "T C:SELECT_0 Z:I");
}

#[tokio::test]
async fn a_relation_made_elsewhere_is_withheld_until_it_is_known() {
    let proxy = Proxy::start().await;
    let mut raw = proxy.raw().await;
    let made = tokio::task::spawn_blocking(|| {
        server().psql("CREATE TABLE elsewhere (made int); GRANT ALL ON elsewhere TO proxy")
    });
    made.await.unwrap();
    let select = q("SELECT made FROM elsewhere");
    assert_eq!(raw.ask(std::slice::from_ref(&select)).await, UNKNOWN);
    proxy.records_soon("catalog_refresh", 1).await;
    assert_eq!(raw.ask(&[select]).await, "T C:SELECT_0 Z:I");
    assert_eq!(proxy.records("tripwire").len(), 0);
}

#[tokio::test]
async fn nothing_is_decided_by_a_catalog_that_is_known_to_be_old() {
    let way = Way::start().await;
    let proxy = Proxy::through(&way).await;
    let (mut raw, mut other) = (proxy.raw().await, proxy.raw().await);
    way.set_open(false);
    assert_eq!(
        raw.ask(&[q("CREATE TABLE made_unseen (made int)")]).await,
        "C:CREATE_TABLE Z:I"
    );
    let refused = "ERROR:57P03 Z:I";
    assert_eq!(raw.ask(&[q("SELECT 1")]).await, refused);
    assert_eq!(raw.ask(&[pbe("SELECT 1"), s()]).await, refused);
    // For nobody.
    assert_eq!(other.ask(&[q("SELECT 1")]).await, refused);
    way.set_open(true);
    assert_eq!(raw.ask(&[q("SELECT 1")]).await, "T D:1 C:SELECT_1 Z:I");
    let select = q("SELECT made FROM made_unseen");
    assert_eq!(other.ask(&[select]).await, "T C:SELECT_0 Z:I");
}
