//! Every way in which PostgreSQL asks for a proof.

use crate::support::{FakeServer, TestResult, passthrough, proxy};

#[tokio::test]
async fn scram_md5_cleartext_and_trust_logins_get_their_tenants_rows() -> TestResult {
    let proxy = proxy(&[]).await;
    for role in ["app_user", "md5_user", "plain_user", "trust_user"] {
        for (tenant, rows) in [("acme", 3_i64), ("globex", 2)] {
            let client = proxy.log_in(&format!("{role}.{tenant}")).await;
            let row = client.query_one("SELECT session_user::text, count(*) FROM notes", &[]).await?;
            assert_eq!((row.get(0), row.get(1)), (role, rows));
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_fails_with_every_method() {
    let proxy = proxy(&[]).await;
    for role in ["app_user", "md5_user", "plain_user"] {
        let mut config = proxy.config(&format!("{role}.acme"));
        let error = config.password("wrong").connect(tokio_postgres::NoTls).await.map(drop).unwrap_err();
        assert_eq!(error.code().map(|code| code.code()), Some("28P01"), "{role}");
    }
}

#[tokio::test]
async fn the_client_is_asked_for_its_password_where_the_server_asks_for_md5() {
    let proxy = passthrough(&[]).await;
    let mut client = proxy.connect().await;
    client.start("md5_user.acme", &[]).await;
    assert_eq!(client.message().await, Some((b'R', vec![0, 0, 0, 3])), "AuthenticationCleartextPassword");
}

#[tokio::test]
async fn a_bypass_users_md5_request_is_relayed() -> TestResult {
    let proxy = proxy(&[("superuser_bypass", "md5_user")]).await;
    let mut client = proxy.connect().await;
    client.start("md5_user", &[]).await;
    let (tag, body) = client.message().await.expect("a request");
    assert_eq!((tag, &body[..4]), (b'R', &[0, 0, 0, 5][..]), "AuthenticationMD5Password");
    proxy.log_in("md5_user").await.batch_execute("SELECT 1").await?;
    Ok(())
}

#[tokio::test]
async fn a_method_that_cannot_be_relayed_is_refused_by_name() {
    for (request, name) in [
        (&b"R\0\0\0\x08\0\0\0\x07"[..], "GSSAPI"),
        (b"R\0\0\0\x08\0\0\0\x09", "SSPI"),
        (b"R\0\0\0\x15\0\0\0\x0aOAUTHBEARER\0\0", "OAUTHBEARER"),
    ] {
        let server = FakeServer::start().await;
        let proxy = passthrough(&[("upstream_port", &server.port().to_string())]).await;
        let mut client = proxy.connect().await;
        client.start("app_user.acme", &[]).await;
        let _stream = server.answer(request).await;
        let error = client.refusal().await;
        error.assert_is("0A000");
        assert!(error.message.contains(name) && error.hint.contains("scram-sha-256"), "{error:?}");
    }
}

#[tokio::test]
async fn one_reply_is_forwarded_per_request_and_the_rest_is_held_back_until_ready() -> TestResult {
    use tokio::io::AsyncReadExt;

    let server = FakeServer::start().await;
    let proxy = passthrough(&[("upstream_port", &server.port().to_string())]).await;
    let mut client = proxy.connect().await;
    client.start("app_user.acme", &[]).await;
    // Two replies and a query in one segment, where the server asks once.
    client.send(b"p\0\0\0\x0bsecret\0p\0\0\0\x0bsecond\0Q\0\0\0\x0dselect 1\0").await;
    let mut stream = server.answer(b"R\0\0\0\x08\0\0\0\x03").await;
    let mut reply = [0; 12];
    stream.read_exact(&mut reply).await?;
    assert_eq!(&reply, b"p\0\0\0\x0bsecret\0");
    // What comes next must be the proxy's, not what the client sent ahead.
    let mut ahead = [0; 12];
    stream.read_exact(&mut ahead).await?;
    assert_eq!((ahead[0], &ahead[5..]), (b'Q', &b"SET sta"[..]), "the proxy's own statement");
    let size = usize::from(ahead[4]) + 1;
    stream.read_exact(&mut vec![0; size - ahead.len()]).await?;
    // The server goes on to ReadyForQuery, and does that.
    tokio::io::AsyncWriteExt::write_all(
        &mut stream,
        b"R\0\0\0\x08\0\0\0\0S\0\0\0\x19server_encoding\0UTF8\0Z\0\0\0\x05IC\0\0\0\x08SET\0Z\0\0\0\x05I",
    )
    .await?;
    let mut question = [0; 12];
    stream.read_exact(&mut question).await?;
    assert_eq!((question[0], &question[5..]), (b'Q', &b"SELECT "[..]), "the proxy's own question");
    Ok(())
}
