//! A proxy's life.

use std::sync::Arc;
use std::time::Duration;

use napi::bindgen_prelude::PromiseRaw;
use napi::{Either, Env};
use napi_derive::napi;
use pgvpd_core::{Proxy, ProxyHandle, StartError};
use tokio::sync::watch;

use crate::{Failure, Setting, config, either};

/// A running proxy. To collect it as garbage stops it, so the wrapper keeps it until it has stopped.
#[napi]
pub struct NativeProxy {
    #[napi(readonly)]
    pub host: String,
    #[napi(readonly)]
    pub port: u16,
    #[napi(readonly)]
    pub tls_port: Option<u16>,
    #[napi(readonly)]
    pub admin_port: Option<u16>,
    handle: Arc<ProxyHandle>,
    /// Open until the proxy has stopped.
    life: watch::Sender<bool>,
}

/// What a proxy has done and does, at one moment.
#[napi(object)]
pub struct Stats {
    /// Connections accepted since the start, cancel requests included.
    pub connections_total: f64,
    /// Logins that led to a session since the start.
    pub sessions_total: f64,
    /// Logins refused since the start, by the proxy or the server.
    pub refused_total: f64,
    /// Clients that are admitted now: relayed, or logging in.
    pub sessions_active: f64,
}

/// Checks the settings, opens the listeners and starts to serve.
#[napi]
pub async fn start_proxy(settings: Vec<Setting>) -> Either<NativeProxy, Failure> {
    let start = async {
        let handle = Proxy::builder().config(config(settings)?).start().await.map_err(|error| match error {
            StartError::Config(error) => error.into(),
            error => Failure::new("ERR_PGVPD_START", error),
        })?;
        let (host, port) = (handle.local_addr().ip().to_string(), handle.local_addr().port());
        let tls_port = handle.tls_addr().map(|address| address.port());
        let admin_port = handle.admin_addr().map(|address| address.port());
        let life = watch::Sender::new(true);
        // It may end by `POST /drain` too.
        let (ended, ends) = (handle.ended(), life.clone());
        napi::bindgen_prelude::spawn(async move {
            ended.await;
            ends.send_replace(false);
        });
        Ok(NativeProxy { host, port, tls_port, admin_port, handle: Arc::new(handle), life })
    };
    either(start.await)
}

#[napi]
impl NativeProxy {
    #[napi]
    pub fn url(&self, tenant: String, database: String, password: Option<String>) -> String {
        match password {
            Some(password) => self.handle.url_with_password(&tenant, &database, &password),
            None => self.handle.url(&tenant, &database),
        }
    }

    #[napi]
    pub fn stats(&self) -> Stats {
        let stats = self.handle.stats();
        // Exact up to 2^53, as every number of JavaScript's.
        Stats {
            connections_total: stats.connections_total as f64,
            sessions_total: stats.sessions_total as f64,
            refused_total: stats.refused_total as f64,
            sessions_active: stats.sessions_active as f64,
        }
    }

    /// Replaces the configuration for new sessions, in whole. Gives the options whose new value needs a restart.
    #[napi]
    pub fn reload(&self, settings: Vec<Setting>) -> Either<Vec<&'static str>, Failure> {
        let reloaded = config(settings)
            .and_then(|config| self.handle.reload(config).map_err(|error| Failure::new("ERR_PGVPD_CONFIG", error)));
        either(reloaded.map(|reloaded| reloaded.needs_restart))
    }

    // These two are no `async fn`: that would borrow what the end of a worker thread frees.

    /// Stops: sessions may go on for `timeout` seconds. Gives the number of sessions that had to be closed.
    #[napi]
    pub fn stop<'env>(&self, env: &'env Env, timeout: f64) -> napi::Result<PromiseRaw<'env, Either<f64, Failure>>> {
        let (handle, life) = (Arc::clone(&self.handle), self.life.clone());
        env.spawn_future(async move {
            let Ok(timeout) = Duration::try_from_secs_f64(timeout) else {
                return Ok(Either::B(Failure::new("ERR_PGVPD_CONFIG", "timeout: give seconds, 0 or more")));
            };
            let closed = handle.shutdown(timeout).await;
            life.send_replace(false);
            Ok(Either::A(closed as f64))
        })
    }

    /// Resolves when the proxy has stopped and every session is closed. Does not keep the proxy.
    #[napi]
    pub fn closed<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, ()>> {
        let mut life = self.life.subscribe();
        env.spawn_future(async move {
            // An error is the end as well: the proxy went with its thread.
            let _ = life.wait_for(|lives| !lives).await;
            Ok(())
        })
    }
}
