//! Runs resolvers' queries on one connection: those of a level in one write, each in a transaction of its own under the tenant's
//! context, so that none is affected by another's failure.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tracing::warn;

use super::definition::{Resolver, Source};
use super::fault::{Fault, MAX_VALUES, is_unavailable};
use crate::context::{ATTACH, Facts, InjectionError, Scope, Token, ask_echo, read_facts};
use crate::net::Conn;
use crate::pool::{Answers, ExchangeError, run_statement, send};
use crate::random::Echo;
use crate::upstream::Parameters;
use crate::wire::{Answer, DataRow, ErrorFields, RowDescription, bind_values, bind_values_described, tag};

/// A resolver and what it is asked about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    pub(crate) resolver: Arc<Resolver>,
    /// Its parameters, none of them empty.
    pub(crate) params: Arc<[String]>,
}

/// The values of a resolver's variables, in the order of its `inject`; `None` where there was no row.
pub(crate) type Values = Option<Arc<[String]>>;

/// What was asked has been answered, or will not be.
pub(super) type Verdict = Result<Values, Fault>;

/// How much longer than the server's own limit the proxy waits.
const GRACE: Duration = Duration::from_secs(1);

/// Rows that are asked for: the second one shows that there are several.
const ROWS: u32 = 2;

/// Asks what contexts on this connection are to be signed for. What was signed before is void then.
pub(super) async fn attach<S>(conn: &mut Conn<S>, parameters: &mut Parameters) -> Result<Facts, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut messages = Vec::new();
    bind_values(&mut messages, ATTACH, &[]);
    facts(run_statement(conn, parameters, &messages).await.map_err(gone)?)
}

fn facts(answer: Answer) -> Result<Facts, Fault> {
    match answer {
        Answer::Error(body) if InjectionError::is_missing(&ErrorFields::new(&body)) => {
            Err(Fault::Context(InjectionError::NotInstalled))
        }
        Answer::Error(body) => Err(Fault::Failed(ErrorFields::new(&body).summary().into())),
        Answer::Row(row) => read_facts(&row).map_err(Fault::Context),
    }
}

/// A connection on which queries run.
pub(super) struct Site<'a, S> {
    pub(super) conn: &'a mut Conn<S>,
    pub(super) parameters: &'a mut Parameters,
    /// What contexts are signed for on it, where they are.
    pub(super) facts: Option<Facts>,
    /// What has been signed is to be void when the answers are there: the session will be somebody's.
    pub(super) moves_nonce: bool,
    /// The connection is of no more use.
    pub(super) is_lost: bool,
}

/// Asks all questions in one write, and reads their verdicts. `Err` where the connection is of no more use.
pub(super) async fn ask<S>(
    site: &mut Site<'_, S>,
    scope: &Scope,
    questions: &[Question],
    limit: Duration,
) -> Result<Vec<Verdict>, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut tokens = scope.tokens(site.facts);
    while let Some(token) = tokens.pop() {
        let patience = limit.saturating_mul(u32::try_from(questions.len()).unwrap_or(u32::MAX)).saturating_add(GRACE);
        let asked = ask_with(site, scope, token.as_ref(), questions, limit);
        let Ok(verdicts) = timeout(patience, asked).await else { return Err(Fault::Slow(limit)) };
        match verdicts? {
            Some(verdicts) => return Ok(verdicts),
            // The database knows another key.
            None => continue,
        }
    }
    Err(Fault::Context(InjectionError::NotVerified))
}

/// `None` where the database has not verified the context.
async fn ask_with<S>(
    site: &mut Site<'_, S>,
    scope: &Scope,
    token: Option<&Token>,
    questions: &[Question],
    limit: Duration,
) -> Result<Option<Vec<Verdict>>, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (echo, mut messages) = (Echo::new(), Vec::with_capacity(2048));
    ask_echo(&echo, &mut messages);
    for Question { resolver, params } in questions {
        let Source::Sql(query) = &resolver.source else { continue };
        scope.open(token, limit, &mut messages);
        let values: Vec<&[u8]> = params.iter().map(|value| value.as_bytes()).collect();
        bind_values_described(&mut messages, query, &values, ROWS);
    }
    let moves_nonce = site.moves_nonce && token.is_some();
    if moves_nonce {
        bind_values(&mut messages, ATTACH, &[]);
    }
    ask_echo(&echo, &mut messages);
    send(site.conn, &messages).await.map_err(gone)?;
    let mut answers = Answers::new(site.conn, site.parameters);
    answers.expect_echo(&echo).await.map_err(gone)?;
    let (mut verdicts, mut is_verified) = (Vec::with_capacity(questions.len()), true);
    for Question { resolver, .. } in questions {
        match one(&mut answers, scope, token, resolver, limit).await {
            Ok((verdict, verified)) => {
                is_verified &= verified;
                verdicts.push(verdict);
            }
            Err(fault) => {
                site.is_lost = true;
                verdicts.push(Err(fault));
                verdicts.resize(questions.len(), Err(gone(ExchangeError::Closed)));
                return Ok(Some(verdicts));
            }
        }
    }
    if moves_nonce {
        site.facts = Some(facts(answers.expect_row().await.map_err(gone)?)?);
        answers = Answers::new(site.conn, site.parameters);
    }
    answers.expect_echo(&echo).await.map_err(gone)?;
    answers.expect_silence().map_err(gone)?;
    Ok(is_verified.then_some(verdicts))
}

/// Reads what one question has led to, and whether the context was verified.
async fn one<S>(
    answers: &mut Answers<'_, S>,
    scope: &Scope,
    token: Option<&Token>,
    resolver: &Resolver,
    limit: Duration,
) -> Result<(Verdict, bool), Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut reading = Reading::default();
    let mut is_verified = true;
    loop {
        let (found, body) = match answers.next_up_to(MAX_ROW).await {
            // Too long a row: the rest of it will not be read.
            Err(ExchangeError::Malformed(_)) if reading.is_described() => return Err(Fault::TooLong),
            other => other.map_err(gone)?,
        };
        match found {
            tag::READY_FOR_QUERY => {
                let verdict = reading.verdict(resolver);
                return Ok((verdict, is_verified));
            }
            tag::ERROR_RESPONSE => reading.failed(ErrorFields::new(&body), limit),
            tag::DATA_ROW if !reading.is_scoped => {
                let row = DataRow::parse(&body).map_err(|error| gone(error.into()))?;
                is_verified = scope.confirm(&row, token).map_err(Fault::Context)?;
                reading.is_scoped = true;
            }
            tag::ROW_DESCRIPTION => reading.names = Some(names(&body)?),
            tag::NO_DATA => reading.names = Some(Vec::new()),
            tag::DATA_ROW if reading.row.is_none() => {
                let row = DataRow::parse(&body).map_err(|error| gone(error.into()))?;
                reading.row = Some(row.into_iter().map(|column| column.map(<[u8]>::to_vec)).collect());
            }
            tag::DATA_ROW => {
                warn!(resolver = resolver.name, "the resolver's query gave several rows; the first one counts")
            }
            tag::PARSE_COMPLETE
            | tag::BIND_COMPLETE
            | tag::COMMAND_COMPLETE
            | tag::PORTAL_SUSPENDED
            | tag::EMPTY_QUERY_RESPONSE => {}
            other => return Err(gone(ExchangeError::Unexpected(char::from(other)))),
        }
    }
}

/// The longest message that an answer may have: a row, or an error that quotes what is wrong with it.
const MAX_ROW: usize = 256 * 1024;

/// An answer as far as it has come.
#[derive(Default)]
struct Reading {
    is_scoped: bool,
    names: Option<Vec<Vec<u8>>>,
    row: Option<Vec<Option<Vec<u8>>>>,
    failure: Option<Fault>,
}

impl Reading {
    fn is_described(&self) -> bool {
        self.names.is_some()
    }

    fn failed(&mut self, error: ErrorFields<'_>, limit: Duration) {
        /// `query_canceled`
        const CANCELED: &str = "57014";
        self.failure = Some(match error.code().as_deref() {
            Some(CANCELED) => Fault::Slow(limit),
            code if is_unavailable(code) => Fault::Unavailable(error.summary().into()),
            _ => Fault::Failed(error.summary().into()),
        });
    }

    fn verdict(self, resolver: &Resolver) -> Verdict {
        let Self { names, row, failure, .. } = self;
        if let Some(fault) = failure {
            return Err(fault);
        }
        let names = names.unwrap_or_default();
        let mut places = Vec::with_capacity(resolver.inject.len());
        for (_, column) in &resolver.inject {
            let mut found = names.iter().enumerate().filter(|(_, name)| name.as_slice() == column.as_bytes());
            match (found.next(), found.next()) {
                (Some((place, _)), None) => places.push(place),
                (None, _) => return Err(Fault::NoColumn(column.clone())),
                (Some(_), Some(_)) => return Err(Fault::TwoColumns(column.clone())),
            }
        }
        let Some(mut row) = row else { return Ok(None) };
        let mut values = Vec::with_capacity(places.len());
        for (place, (variable, _)) in places.into_iter().zip(&resolver.inject) {
            // One column may be two variables' value.
            let value = row.get_mut(place).and_then(|value| value.clone()).unwrap_or_default();
            let value = String::from_utf8(value).ok().filter(|value| !value.contains('\0'));
            values.push(value.ok_or_else(|| Fault::NotText(variable.to_string()))?);
        }
        within_bounds(values.iter())?;
        Ok(Some(values.into()))
    }
}

/// A context that is too long could not be set.
pub(super) fn within_bounds<'v>(values: impl Iterator<Item = &'v String>) -> Result<(), Fault> {
    if values.map(String::len).sum::<usize>() > MAX_VALUES { Err(Fault::TooLong) } else { Ok(()) }
}

fn names(description: &[u8]) -> Result<Vec<Vec<u8>>, Fault> {
    let names = RowDescription::names(description).map_err(|error| gone(error.into()))?;
    Ok(names.into_iter().map(<[u8]>::to_vec).collect())
}

fn gone(error: ExchangeError) -> Fault {
    Fault::Gone(error.to_string().into())
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
