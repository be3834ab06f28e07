use super::*;
use tokio::net::TcpStream;

/// Also as root, where the server runs as somebody else.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_starts_lets_in_whom_it_should_and_leaves_nothing() {
    let server = Server::start(&find(None).unwrap(), "correct horse")
        .await
        .unwrap();
    let directory = server.directory.clone();
    let pid = std::fs::read_to_string(directory.join("data/postmaster.pid")).unwrap();
    let pid = pid.lines().next().unwrap().to_owned();
    let mode = std::fs::metadata(&directory).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0);

    let login = |password| Login {
        user: ROLE,
        password,
        database: DATABASE,
        application: "test",
    };
    let address = ("127.0.0.1", server.port);
    let stream = TcpStream::connect(address).await.unwrap();
    let mut client = Client::start(stream, &login("correct horse"))
        .await
        .unwrap();
    let answer = client
        .query("select rolsuper, rolcreatedb, current_setting('server_encoding') from pg_roles where rolname = current_user")
        .await
        .unwrap();
    let row: Vec<_> = answer.rows[0].iter().flatten().collect();
    assert_eq!(row, ["f", "f", "UTF8"]);
    let refused = client.query("create table t ()").await.unwrap_err();
    assert!(matches!(refused, ClientError::Refused { state, .. } if state == "42501"));
    // A refusal does not end the session.
    client.query("select 1").await.unwrap();

    let stream = TcpStream::connect(address).await.unwrap();
    let Err(wrong) = Client::start(stream, &login("wrong")).await else {
        panic!("a wrong password was let in");
    };
    assert!(matches!(wrong, ClientError::Refused { state, .. } if state == "28P01"));

    drop(server);
    assert!(!directory.exists());
    assert!(TcpStream::connect(address).await.is_err());
    assert!(!Path::new("/proc").join(pid).exists() || !cfg!(target_os = "linux"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dataset_loads_and_the_role_reads_it() {
    let server = Server::start(&find(None).unwrap(), "pw").await.unwrap();
    server.load().await.unwrap();
    let mut admin = server.admin(DATABASE).await.unwrap();
    let answer = admin
        .query(
            "set role pgveil; select \
             (select count(*) from customers), \
             (select count(distinct ssn) from customers), \
             (select count(*) from orders), \
             (select count(*) from events), \
             (select count(*) from customer_contacts), \
             (select count(*) from region_totals), \
             customer_card(1) like 'Zoe Chen <zoe.chen1@mail.example>, SSN ___-__-____'",
        )
        .await
        .unwrap();
    let row: Vec<_> = answer.rows[0].iter().flatten().collect();
    assert_eq!(
        row,
        ["100000", "100000", "300000", "200000", "100000", "4", "t"]
    );
}

#[test]
fn the_newest_version_is_taken() {
    let mut versions = ["9.6.24", "18beta1", "15.14 ", "18.1", "15.9", "devel"];
    versions.sort_by_key(|version| order(version));
    assert_eq!(
        versions,
        ["devel", "9.6.24", "15.9", "15.14 ", "18beta1", "18.1"]
    );
}
