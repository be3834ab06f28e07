//! COPY, both ways, by both protocols.

use super::support::*;

#[tokio::test]
async fn copy_in_by_both_protocols() {
    let proxy = Proxy::start().await;
    let mut raw = proxy.raw().await;
    let copy = "COPY sink FROM STDIN";
    raw.send(&[q(copy)]).await;
    assert_eq!(raw.until(b'G').await, "G");
    raw.send(&[data("101\ta\n"), data("102\tb\n"), copy_done()])
        .await;
    assert_eq!(raw.answer().await, "C:COPY_2 Z:I");

    // Sync before the data is ignored, as by libpq.
    raw.send(&[pbe(copy), s()]).await;
    assert_eq!(raw.until(b'G').await, "1 2 G");
    raw.send(&[data("103\tc\n"), h(), s(), copy_done(), s()])
        .await;
    assert_eq!(raw.answer().await, "C:COPY_1 Z:I");

    // All of it before any answer.
    raw.send(&[pbe(copy), data("104\td\n"), copy_done(), s(), q("SELECT 1")])
        .await;
    assert_eq!(raw.answer().await, "1 2 G C:COPY_1 Z:I");
    assert_eq!(raw.answer().await, "T D:1 C:SELECT_1 Z:I");

    let two = format!("{copy}; {copy}; SELECT 5");
    let all = [
        q(&two),
        data("105\te\n"),
        copy_done(),
        data("106\tf\n"),
        copy_done(),
    ];
    assert_eq!(
        raw.ask(&all).await,
        "G C:COPY_1 G C:COPY_1 T D:5 C:SELECT_1 Z:I"
    );
    let rows: Vec<_> = proxy
        .records("statement")
        .iter()
        .map(|it| it["rows"].clone())
        .collect();
    assert_eq!(rows, [2, 1, 1, 1, 1, 1, 1]);
}

#[tokio::test]
async fn a_failing_copy_in_drains() {
    let proxy = Proxy::start().await;
    let mut raw = proxy.raw().await;
    let copy = "COPY sink FROM STDIN";
    raw.send(&[q(copy)]).await;
    raw.until(b'G').await;
    raw.send(&[data("nonsense\n"), data("201\ta\n"), copy_done()])
        .await;
    assert_eq!(raw.answer().await, "ERROR:22P02 Z:I");
    assert_eq!(
        raw.ask(&[data("late\n"), copy_done(), q("SELECT 1")]).await,
        "T D:1 C:SELECT_1 Z:I"
    );

    raw.send(&[pbe(copy), s()]).await;
    raw.until(b'G').await;
    raw.send(&[data("nonsense\n"), copy_done(), pbe("SELECT 1"), s()])
        .await;
    assert_eq!(raw.answer().await, "ERROR:22P02 Z:I");

    raw.send(&[q(copy)]).await;
    raw.until(b'G').await;
    assert_eq!(raw.ask(&[copy_fail()]).await, "ERROR:57014 Z:I");
    assert_eq!(
        raw.ask(&[q("SELECT count(*) FROM sink WHERE id = 201")])
            .await,
        "T D:0 C:SELECT_1 Z:I"
    );

    raw.send(&[q(copy)]).await;
    raw.until(b'G').await;
    assert_eq!(raw.ask(&[q("SELECT 1")]).await, "FATAL:08P01 end");
}

#[tokio::test]
async fn copy_out_by_both_protocols() {
    let proxy = Proxy::start().await;
    let mut raw = proxy.raw().await;
    let copy = "COPY (SELECT generate_series(1, 3)) TO STDOUT";
    assert_eq!(raw.ask(&[q(copy)]).await, "H d d d c C:COPY_3 Z:I");
    assert_eq!(
        raw.ask(&[pbe(copy), s()]).await,
        "1 2 H d d d c C:COPY_3 Z:I"
    );
}
