//! Resets of the role, where `set_role` has chosen one.

use super::setups::setups;
use crate::support::script::{Write, extended, query, sync, write};
use crate::support::{Mode, mode};

const WHO: &str = "SELECT current_user, current_tenant_id(), count(*) FROM notes";

/// The raw relay reads no message: its session goes back to the login role, and keeps the tenant.
#[tokio::test]
async fn a_role_that_is_reset_is_put_back_before_what_follows() {
    let expected = if mode() == Mode::Raw { "app_user" } else { "reporting" };
    for setup in setups(&[("set_role", "reporting")]).await {
        for reset in [
            "RESET ROLE",
            "RESET SESSION AUTHORIZATION",
            "SET SESSION AUTHORIZATION DEFAULT",
            "SET role TO DEFAULT",
            "DISCARD ALL",
            "SET SESSION AUTHORIZATION DEFAULT; RESET ALL",
        ] {
            let scripts: [Vec<Write>; 3] = [
                vec![write(&[query(reset)]), write(&[query(WHO)])],
                vec![write(&[query(reset), query(WHO)])],
                vec![write(&[extended("SELECT 1"), sync(), query(reset), extended(WHO), sync()])],
            ];
            for script in scripts {
                let answers = setup.log_in().await.play(&script).await;
                let row = answers.iter().rfind(|answer| answer.starts_with('D')).expect("a row");
                assert!(row.contains(expected) && row.contains("acme"), "{reset}, {}: {row}", setup.name);
            }
        }
    }
}

/// As on a connection of one's own, where it is no reset but a choice. The tenant stays.
#[tokio::test]
async fn a_role_that_is_chosen_stays_and_so_does_the_tenant() {
    for setup in setups(&[("set_role", "reporting")]).await {
        let answers = setup.log_in().await.play(&[write(&[query("SET ROLE NONE"), query(WHO)])]).await;
        let row = answers.iter().rfind(|answer| answer.starts_with('D')).expect("a row");
        assert!(row.contains("app_user") && row.contains("acme"), "{}: {row}", setup.name);
    }
}
