//! A proxy with an admin API.

use std::net::SocketAddr;

use crate::{Answer, TestProxy, http, proxy};

/// The token of [`administered`].
pub const ADMIN_TOKEN: &str = "a-token-for-tests";

/// A proxy with an admin API and a token.
pub async fn administered(options: &[(&str, &str)]) -> TestProxy {
    proxy(&[&[("admin_port", "0"), ("admin_token", ADMIN_TOKEN)], options].concat()).await
}

impl TestProxy {
    /// Where its admin API is.
    pub fn admin(&self) -> SocketAddr {
        self.handle.admin_addr().expect("an admin port")
    }

    /// What a path says.
    pub async fn get(&self, path: &str) -> Answer {
        http(self.admin(), "GET", path, &[], "").await
    }

    /// Does something, with the token.
    pub async fn post(&self, path: &str) -> Answer {
        self.post_body(path, "").await
    }

    /// The same, with a body.
    pub async fn post_body(&self, path: &str, body: &str) -> Answer {
        let token = format!("Bearer {ADMIN_TOKEN}");
        http(self.admin(), "POST", path, &[("authorization", &token)], body).await
    }

    /// The value of a metric, with its labels as they stand in the text.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let text = self.get("/metrics").await.body;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|value| value.parse().ok())
    }
}
