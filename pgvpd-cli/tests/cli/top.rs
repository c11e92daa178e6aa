//! `pgvpd top`, as it is in a pipe.

use crate::support::{Server, TestResult, log_in, run};

#[tokio::test(flavor = "multi_thread")]
async fn it_shows_sessions_pools_and_tenants_of_a_running_proxy() -> TestResult {
    let server = Server::start(&["--admin-port", "0", "--relay", "framed"]).await;
    let line = server.program.err.line("admin_address").await;
    let admin = line.split_once("admin_address=\"").and_then(|(_, rest)| rest.split('"').next()).ok_or("an address")?;
    let _client = log_in(server.address, "app_user.acme").await?;
    let shown = run(&["top", "--url", &format!("http://{admin}/")], &[]).code(0);
    let shown = String::from_utf8(shown.get_output().stdout.clone())?;
    assert!(shown.contains("clients 1 of 1 tenants") && shown.contains("running"), "{shown}");
    let session = shown.lines().find(|line| line.contains("| idle")).ok_or("the session")?;
    assert!(shown.contains("logins 0.0/s") && !shown.contains('–'), "two looks were taken, and make rates: {shown}");
    assert!(session.contains("acme") && session.contains("app_user") && session.contains("127.0.0.1"), "{session}");
    Ok(())
}

#[test]
fn what_keeps_it_from_showing_anything_is_said() {
    for (arguments, code, part) in [
        (&["top"][..], 2, "no admin_port is known"),
        (&["top", "--url", "ftp://x"], 2, "is not a URL"),
        (&["top", "--url", "http://127.0.0.1:1"], 1, "the proxy does not answer at http://127.0.0.1:1"),
        (&["top", "--interval", "0"], 2, "give seconds from 0.1 to 3600"),
    ] {
        let refused = run(arguments, &[]).code(code);
        let said = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
}
