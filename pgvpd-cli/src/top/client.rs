//! Asking the admin API.

use std::time::Duration;

use anyhow::{Context, bail};
use pgvpd_core::config::AdminToken;
use serde_json::Value;
use ureq::Agent;
use zeroize::Zeroizing;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The largest answer that is read, in bytes.
const MAX_ANSWER: u64 = 64 * 1024 * 1024;

/// Sessions that are asked for.
const SESSIONS: usize = 1000;

/// A proxy's admin API.
pub(super) struct Client {
    agent: Agent,
    url: String,
    authorization: Option<Zeroizing<String>>,
}

impl Client {
    pub(super) fn new(url: &str, token: Option<&AdminToken>) -> Self {
        // A proxy of the environment is not for a port of this machine.
        let config = Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(false).proxy(None);
        let authorization = token.map(AdminToken::authorization);
        Self { agent: config.build().into(), url: url.to_owned(), authorization }
    }

    /// Everything at this moment.
    pub(super) fn status(&self) -> anyhow::Result<Value> {
        let url = format!("{}/status?sessions={SESSIONS}", self.url);
        let mut request = self.agent.get(&url);
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization.as_str());
        }
        let mut answer = request.call().with_context(|| format!("the proxy does not answer at {}", self.url))?;
        let text = answer.body_mut().with_config().limit(MAX_ANSWER).read_to_string()?;
        if answer.status() != 200 {
            let error = serde_json::from_str::<Value>(&text).ok();
            let error = error.as_ref().and_then(|error| error["error"].as_str()).unwrap_or("it says no more");
            bail!("the proxy at {} answers {}: {error}", self.url, answer.status().as_u16());
        }
        super::parse(&text)
    }
}
