//! The client proves to the proxy who it is. What is asked for is `auth::Method`'s to decide; here the messages go to and fro.

use std::sync::Arc;

use subtle::ConstantTimeEq;
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::{Level, error};
use zeroize::Zeroizing;

use super::Ended;
use super::admit::AdmittedClient;
use super::leg::Leg;
use super::login::Negotiation;
use super::login_error::{LoginError, MAX_HELD_BACK};
use crate::auth::ClientAuth;
use crate::auth::{
    Against, Challenge, MAX_VERIFIER_ITERATIONS, Method, Nonce, Offer, Proved, SCRAM_SHA_256, SCRAM_SHA_256_PLUS,
    ScramError, Secret, Verifier, md5_fits, password_fits,
};
use crate::config::Config;
use crate::error::Refusal;
use crate::logins::Attempt;
use crate::logins::Login;
use crate::net::Conn;
use crate::random::random_bytes;
use crate::repeats::Failure;
use crate::shared::Shared;
use crate::wire::{
    Reader, SqlState, WireError, authentication_cleartext_password, authentication_md5_password, authentication_ok,
    authentication_sasl, authentication_sasl_continue, authentication_sasl_final, sasl_initial, tag,
};

/// Who a client says it is.
pub(super) struct Claim {
    pub(super) attempt: Attempt,
    /// The user name as it was typed: MD5 hashes it, and errors name it.
    pub(super) typed_user: Box<str>,
    pub(super) negotiation: Negotiation,
    pub(super) leg: Leg,
    pub(super) purpose: Purpose,
    /// Its place among logins in progress.
    pub(super) login: Arc<Login>,
}

/// What a client comes for, which decides what it has to prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A session: the secret is the role's.
    Session,
    /// The console: the secret is the administrator's own, proved by SCRAM whatever `client_auth` says.
    Console,
}

/// What becomes of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Right,
    Wrong,
}

/// Asks for a proof and judges it, at once: only the refusal of a wrong one is delayed, so that the right one never waits for those
/// of others. AuthenticationOk, and what belongs before it, is queued for the client and not flushed.
pub(super) async fn authenticate<S>(
    client: &mut Conn<S>,
    claim: Claim,
    shared: &Shared,
    config: &Config,
) -> Result<(), Ended>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Claim { attempt, typed_user, negotiation, leg, purpose, login } = claim;
    let mut out = Zeroizing::new(Vec::new());
    negotiation.answer(&mut out);
    client.queue(&out);

    let method = match purpose {
        Purpose::Session => {
            let secret = shared.secrets.of_client(&attempt.role, config, &shared.deriver).await;
            let secret = secret.map_err(|error| Refusal::from(&error))?;
            Method::of(config.client_auth, secret.filter(|secret| may_be_used(secret, &attempt.role, shared)))
        }
        Purpose::Console => {
            let secret = config.admin_users.secret(&attempt.role).cloned();
            Method::of(ClientAuth::ScramSha256, secret.filter(|secret| may_be_used(secret, &attempt.role, shared)))
        }
    };
    let iterations = shared.secrets.iterations(&attempt.role, config, &shared.decoy);
    let is_private = leg.is_tls || attempt.address.is_local();
    let end_point = leg.end_point.as_ref();
    let (role, login) = (&*attempt.role, &*login);
    let mut exchange =
        Exchange { client, role, typed_user: &typed_user, end_point, purpose, iterations, login, shared };
    let verdict = match method {
        Method::Scram(against) => exchange.scram(against).await?,
        Method::Md5(password) => exchange.md5(password).await?,
        Method::Cleartext(_) if !is_private && !config.allow_cleartext => {
            return Err(Refusal::cleartext_client().into());
        }
        Method::Cleartext(secret) => exchange.cleartext(secret).await?,
    };
    match verdict {
        Verdict::Right => {
            shared.penalties.succeeded(&attempt);
            out.clear();
            authentication_ok(&mut out);
            client.queue(&out);
            Ok(())
        }
        Verdict::Wrong => {
            if purpose == Purpose::Session {
                shared.secrets.doubt(&attempt.role);
            }
            shared.counters.count_failed_login();
            let told = Box::new(Refusal::wrong_password(&typed_user).into());
            Err(Ended::WrongProof { attempt: Box::new(attempt), told })
        }
    }
}

/// False for a verifier that is too much work: then nobody logs in, as if there were none.
fn may_be_used(secret: &Secret, role: &str, shared: &Shared) -> bool {
    let Secret::Scram(verifier) = secret else { return true };
    let is_slow = verifier.is_too_slow();
    if is_slow && shared.repeats.is_new(Level::ERROR, Failure::new("verifier", role)) {
        let (iterations, most) = (verifier.iterations(), MAX_VERIFIER_ITERATIONS);
        error!(role, iterations, most, "nobody can log in as this role: its verifier has too many iterations");
    }
    !is_slow
}

impl Claim {
    /// Returns the claim of a tenant's client.
    pub(super) fn of(client: &AdmittedClient) -> Self {
        Self {
            attempt: client.attempt(),
            typed_user: client.info().user.clone(),
            negotiation: client.negotiation.clone(),
            leg: client.leg.clone(),
            purpose: Purpose::Session,
            login: Arc::clone(&client.login),
        }
    }
}

/// A client that is asked.
struct Exchange<'a, S> {
    client: &'a mut Conn<S>,
    role: &'a str,
    typed_user: &'a str,
    /// What the client can bind a proof to.
    end_point: Option<&'a Arc<[u8]>>,
    purpose: Purpose,
    /// Rounds of key derivation where no verifier says how many.
    iterations: u32,
    login: &'a Login,
    shared: &'a Shared,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Exchange<'_, S> {
    /// RFC 5802. Nobody's verifier goes the same way, and fails at the end.
    async fn scram(&mut self, against: Against) -> Result<Verdict, Ended> {
        let decoy = &self.shared.decoy;
        let (verifier, is_servers_own) = match against {
            Against::Verifier(verifier) => (verifier, true),
            Against::Password(password) => {
                let salt = decoy.salt(self.role);
                let keys = self.shared.deriver.keys(password.as_bytes(), &salt, self.iterations).await;
                (Verifier::of(&keys, salt, self.iterations), false)
            }
            Against::Nobody => (decoy.verifier(self.role, self.iterations), false),
        };
        let offered: &[&str] = match self.end_point {
            // The better one first (manual, "SASL Authentication").
            Some(_) => &[SCRAM_SHA_256_PLUS, SCRAM_SHA_256],
            None => &[SCRAM_SHA_256],
        };
        self.ask(|out| authentication_sasl(out, offered)).await?;
        let reply = self.reply().await?;
        let (offer, data) = chosen(&reply, self.end_point)?;
        let challenge = Challenge::new(data, verifier.clone(), &Nonce::random(), &offer).map_err(malformed)?;
        self.ask(|out| authentication_sasl_continue(out, challenge.message().as_bytes())).await?;
        let reply = self.reply().await?;
        match challenge.judge(&reply) {
            Ok(Proved { message, client_key }) => {
                let mut out = Vec::new();
                authentication_sasl_final(&mut out, message.as_bytes());
                self.client.queue(&out);
                // What an administrator has proved opens nothing in the database.
                if is_servers_own && self.purpose == Purpose::Session {
                    self.shared.secrets.learn(self.role, &verifier, client_key);
                }
                Ok(Verdict::Right)
            }
            Err(ScramError::Proof) => Ok(Verdict::Wrong),
            Err(error @ ScramError::OtherChannel) => Err(Refusal::not_this_channel(error).into()),
            Err(error) => Err(malformed(error)),
        }
    }

    async fn md5(&mut self, password: Option<Zeroizing<String>>) -> Result<Verdict, Ended> {
        let salt = random_bytes();
        self.ask(|out| authentication_md5_password(out, salt)).await?;
        let reply = self.reply().await?;
        let fits = md5_fits(password.as_deref().map(String::as_str), self.typed_user, salt, text(&reply)?);
        Ok(if fits { Verdict::Right } else { Verdict::Wrong })
    }

    async fn cleartext(&mut self, secret: Option<Secret>) -> Result<Verdict, Ended> {
        self.ask(authentication_cleartext_password).await?;
        let reply = self.reply().await?;
        let given = text(&reply)?;
        let fits = match &secret {
            Some(secret) => match password_fits(secret, self.role, given) {
                Some(fits) => fits,
                None => self.derived_fits(secret, given).await,
            },
            // The same work as for a role that has a verifier.
            None => {
                let salt = self.shared.decoy.salt(self.role);
                let keys = self.shared.deriver.keys(given, &salt, self.iterations).await;
                self.shared.decoy.verifier(self.role, self.iterations).fits(&keys)
            }
        };
        Ok(if fits { Verdict::Right } else { Verdict::Wrong })
    }

    /// Judges a password by a verifier.
    async fn derived_fits(&self, secret: &Secret, given: &[u8]) -> bool {
        let Secret::Scram(verifier) = secret else { return false };
        let keys = self.shared.deriver.keys(given, verifier.salt(), verifier.iterations()).await;
        let fits = verifier.fits(&keys);
        if fits {
            self.shared.secrets.learn(self.role, verifier, keys.into_client());
        }
        fits
    }

    async fn ask(&mut self, request: impl FnOnce(&mut Vec<u8>)) -> Result<(), Ended> {
        let mut out = Vec::new();
        request(&mut out);
        self.client.queue(&out);
        self.client.flush().await.map_err(|_| Ended::ClientGone)
    }

    /// The one message that the client may send now. What it sends ahead of its time stays where it is.
    async fn reply(&mut self) -> Result<Zeroizing<Vec<u8>>, Ended> {
        self.login.client_is_asked();
        let message = self.client.next_message(MAX_HELD_BACK).await.map_err(LoginError::ClientProtocol)?;
        self.login.client_has_answered();
        match message {
            None => Err(Ended::ClientGone),
            Some((tag::PASSWORD, body)) => Ok(body),
            Some((found, _)) => Err(LoginError::UnexpectedReply(char::from(found)).into()),
        }
    }
}

/// What a SASLInitialResponse has chosen of what was offered, and carries.
fn chosen<'r>(body: &'r [u8], end_point: Option<&Arc<[u8]>>) -> Result<(Offer, &'r [u8]), Ended> {
    let malformed = || malformed(ScramError::Malformed("no mechanism, or no initial response of the length it says"));
    let (mechanism, data) = sasl_initial(body).ok_or_else(malformed)?;
    let is = |name: &str| bool::from(mechanism.ct_eq(name.as_bytes()));
    let offer = match end_point {
        Some(hash) if is(SCRAM_SHA_256_PLUS) => Offer::Bound(Arc::clone(hash)),
        Some(_) if is(SCRAM_SHA_256) => Offer::PlainOfBoth,
        None if is(SCRAM_SHA_256) => Offer::Plain,
        _ => return Err(Refusal::wrong_mechanism().into()),
    };
    Ok((offer, data))
}

/// The text of a PasswordMessage.
fn text(body: &[u8]) -> Result<&[u8], Ended> {
    let malformed = || LoginError::ClientProtocol(WireError::Malformed(char::from(tag::PASSWORD)));
    let mut reader = Reader::new(body);
    let text = reader.string().filter(|_| reader.is_empty());
    Ok(text.ok_or_else(malformed)?)
}

fn malformed(error: ScramError) -> Ended {
    if error == ScramError::Downgraded {
        return Refusal::not_this_channel(error).into();
    }
    Refusal::new(SqlState::PROTOCOL_VIOLATION, error).into()
}

impl Refusal {
    fn wrong_password(typed_user: &str) -> Self {
        let message = format_args!("password authentication failed for user {typed_user:?}");
        Self::new(SqlState::INVALID_PASSWORD, message)
    }

    fn wrong_mechanism() -> Self {
        Self::new(SqlState::PROTOCOL_VIOLATION, "client selected an invalid SASL authentication mechanism")
    }

    /// Somebody may be between client and proxy, or takes TLS off before it.
    fn not_this_channel(error: ScramError) -> Self {
        Self::new(SqlState::INVALID_AUTHORIZATION, error).hint(
            "Something between client and proxy ends TLS: connect directly, or with channel_binding=disable if it is yours.",
        )
    }

    fn cleartext_client() -> Self {
        Self::new(SqlState::INVALID_AUTHORIZATION, "the password would cross the network in the clear").hint(
            "Use TLS, a SCRAM-SHA-256 verifier for the role, or a Unix socket; allow_cleartext = true permits it anyway.",
        )
    }
}

#[cfg(test)]
#[path = "authenticate_tests.rs"]
mod tests;
