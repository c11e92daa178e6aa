//! Runs a plan for one login, and again for those that are open when something has changed.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, info, warn};

use super::batch::{Question, Site, Verdict, ask, attach, within_bounds};
use super::cache::{Key, Origin, Results};
use super::definition::{OnChange, Resolver, Source};
use super::fault::{Fault, ResolveError};
use super::figures::{Figures, ResolverStats};
use super::job::Job;
use super::listen::Listeners;
use super::live::{Found, Live, Member, Membership, Renewals, State};
use super::questions::{of_code, params, question, required};
use super::sites::{Access, Sites};
use crate::auth::Deriver;
use crate::context::{Facts, Scope};
use crate::net::Conn;
use crate::shared::Shared;
use crate::upstream::Parameters;

/// Everything that resolvers of one proxy share.
pub(crate) struct Resolving {
    results: Results,
    sites: Sites,
    figures: Figures,
    live: Arc<Live>,
    renewals: Renewals,
    listeners: Listeners,
    deriver: Deriver,
}

/// The session's own connection, on which nothing is outstanding.
pub(crate) struct OwnSite<'a, S> {
    pub(crate) conn: &'a mut Conn<S>,
    pub(crate) parameters: &'a mut Parameters,
    /// What contexts are signed for on it, where that is known.
    pub(crate) facts: Option<Facts>,
}

/// What has been found for a login.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) found: Found,
    /// What contexts are to be signed for on the session's own connection now, where it has been asked on it.
    pub(crate) facts: Option<Facts>,
    watched: Vec<Question>,
    /// Before anything was asked.
    since: u64,
}

/// What a plan has led to.
#[derive(Debug)]
pub(super) struct Ran {
    found: Found,
    /// The questions of resolvers with an `on_change`.
    watched: Vec<Question>,
    facts: Option<Facts>,
}

/// What resolving again for a session has led to.
enum Renewal {
    /// The session goes by the answer.
    Told,
    /// There was none: a lock, a timeout, a connection that is lost.
    Unanswered,
}

/// What one resolver has led to, for who wants to see it.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) resolver: Arc<Resolver>,
    pub(super) params: Vec<String>,
    /// `None` where it was not asked.
    pub(super) verdict: Option<(Verdict, Origin)>,
    pub(super) took: Duration,
}

impl fmt::Debug for Resolving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolving(…)")
    }
}

impl Resolving {
    pub(crate) fn new(cache_bytes: u64) -> Self {
        Self {
            results: Results::new(cache_bytes),
            sites: Sites::default(),
            figures: Figures::default(),
            live: Arc::default(),
            renewals: Renewals::default(),
            listeners: Listeners::default(),
            deriver: Deriver::new(),
        }
    }

    /// Closes connections of the proxy's own on which resolvers run: those to this database, or all.
    pub(crate) fn close_connections(&self, database: Option<&str>) {
        self.sites.close(database);
    }

    /// Works out the context of a login. Safe to cancel; the session's own connection is of no use then.
    pub(crate) async fn resolve<S>(
        self: &Arc<Self>,
        job: &Job,
        own: Option<OwnSite<'_, S>>,
        shared: &Arc<Shared>,
    ) -> Result<Resolved, ResolveError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if job.notify {
            self.listen(job, shared);
        }
        let since = self.results.voided.now();
        let (resolved, _) = self.run(job, own).await;
        let Ran { found, watched, facts } = resolved?;
        Ok(Resolved { found, facts, watched, since })
    }

    /// Enters the session among those that are told of changes, where a resolver asks for that.
    pub(crate) fn follow(self: &Arc<Self>, job: Job, resolved: &Resolved, shared: &Arc<Shared>) -> Option<Membership> {
        if !job.plan.resolvers().any(|resolver| resolver.on_change != OnChange::Keep) {
            return None;
        }
        let Resolved { found, watched, since, .. } = resolved;
        let is_void = watched.iter().any(|question| self.results.voided.is_void(&job.database, question, *since));
        let (member, membership) = self.live.enter(job, State { watched: watched.clone(), found: found.clone() });
        if is_void {
            self.renew(vec![member], shared);
        }
        Some(membership)
    }

    /// Makes results void, and resolves again for the sessions that go by them. `resolver`: all where it is `None`.
    pub(crate) fn invalidate(
        self: &Arc<Self>,
        database: Option<&str>,
        resolver: Option<&str>,
        params: Option<&[String]>,
        shared: &Arc<Shared>,
    ) {
        match resolver {
            Some(resolver) => self.results.voided.void(database, resolver, params),
            None => self.results.voided.void_all(),
        }
        let affected = self.live.affected(database, resolver, params);
        if !affected.is_empty() {
            self.renew(affected, shared);
        }
    }

    /// What each resolver has done.
    pub(crate) fn stats(&self) -> Vec<ResolverStats> {
        self.figures.all()
    }

    /// Resolves again for these sessions, and tells them.
    fn renew(self: &Arc<Self>, members: Vec<Arc<Member>>, shared: &Arc<Shared>) {
        for _ in 0..self.renewals.add(members) {
            let (resolving, again) = (Arc::clone(self), Arc::clone(shared));
            let stopped = shared.stopped.clone();
            let work = async move {
                let mut worker = resolving.renewals.worker();
                while let Some(turn) = worker.next() {
                    match resolving.renew_one(turn.member()).await {
                        Renewal::Told => turn.done(),
                        Renewal::Unanswered => {
                            turn.postpone().into_iter().for_each(|turn| resolving.renew_later(turn, &again));
                        }
                    }
                }
            };
            shared.background.spawn(async move { stopped.run_until_cancelled(work).await });
        }
    }

    /// Resolves again for a session after a while.
    fn renew_later(self: &Arc<Self>, (member, pause): (Arc<Member>, Duration), shared: &Arc<Shared>) {
        let (resolving, again, stopped) = (Arc::clone(self), Arc::clone(shared), shared.stopped.clone());
        shared.background.spawn(async move {
            if stopped.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
                resolving.renew(vec![member], &again);
            }
        });
    }

    async fn renew_one(self: &Arc<Self>, member: &Member) -> Renewal {
        let job = &member.job;
        // Only the session's own connection could be asked, and that is the client's.
        if job.needs_own_site() && job.plan.resolvers().any(|resolver| matches!(resolver.source, Source::Sql(_))) {
            member.tell(None);
            return Renewal::Told;
        }
        match self.run(job, None::<OwnSite<'_, tokio::io::DuplexStream>>).await.0 {
            Ok(Ran { found, watched, .. }) => member.tell(Some(State { watched, found })),
            Err(error) if !error.fault.is_an_answer() => {
                let (tenant, database) = (job.identity.tenant(), &job.database);
                match member.is_unanswered() {
                    false => {
                        warn!(tenant, %database, %error, "a session goes on as it is: its context could not be worked out again yet")
                    }
                    true => debug!(tenant, %database, %error, "a session's context could not be worked out again yet"),
                }
                return Renewal::Unanswered;
            }
            Err(error) => {
                let (tenant, database) = (job.identity.tenant(), &job.database);
                if error.fault.is_a_refusal() {
                    info!(tenant, %database, %error, "a session is closed: what let it in is gone");
                } else {
                    warn!(tenant, %database, %error, "a session is closed: its context cannot be worked out any more");
                }
                member.tell(None);
            }
        }
        Renewal::Told
    }

    /// Has the database's notifications listened to.
    fn listen(self: &Arc<Self>, job: &Job, shared: &Arc<Shared>) {
        let Some(access) = &job.access else { return };
        if let Some(listening) = self.listeners.listen(access, Arc::downgrade(self)) {
            let stopped = shared.stopped.clone();
            let weak = Arc::downgrade(shared);
            shared.background.spawn(async move { stopped.run_until_cancelled(listening.run(weak)).await });
        }
    }

    pub(super) fn deriver(&self) -> &Deriver {
        &self.deriver
    }

    /// Runs the plan. Gives also what each resolver that was come to has led to.
    pub(super) async fn run<S>(&self, job: &Job, own: Option<OwnSite<'_, S>>) -> (Result<Ran, ResolveError>, Vec<Step>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut steps = Vec::new();
        let outcome = self.run_levels(job, own, &mut steps).await;
        (outcome, steps)
    }

    async fn run_levels<S>(
        &self,
        job: &Job,
        own: Option<OwnSite<'_, S>>,
        steps: &mut Vec<Step>,
    ) -> Result<Ran, ResolveError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let scope = job.scope();
        let mut runner = match (&job.access, own) {
            (Some(access), _) => Runner::Proxys { access, resolving: self },
            (None, Some(OwnSite { conn, parameters, facts })) => Runner::Own {
                site: Site { conn, parameters, facts, moves_nonce: true, is_lost: false },
                limit: job.limit,
            },
            (None, None) => Runner::None,
        };
        let given = job.identity.context().map(|(name, value)| (name.clone(), value.to_owned()));
        let mut context: Found = given.collect();
        let given = context.len();
        let mut watched = Vec::new();
        for level in job.plan.levels() {
            let mut questions = Vec::new();
            for resolver in level {
                match question(resolver, &context)? {
                    Some(question) => questions.push(question),
                    None => {
                        steps.push(Step {
                            resolver: Arc::clone(resolver),
                            params: params(resolver, &context),
                            verdict: None,
                            took: Duration::ZERO,
                        });
                        context.extend(resolver.inject.iter().map(|(variable, _)| (variable.clone(), String::new())));
                    }
                }
            }
            let answers = self.run_level(job, &scope, &questions, &mut runner).await;
            let mut failure = None;
            for (question, (verdict, origin, took)) in questions.into_iter().zip(answers) {
                let resolver = &question.resolver;
                let values = match required(&question, verdict.clone()) {
                    Ok(values) => values,
                    Err(fault) => {
                        failure.get_or_insert(fault.of(resolver));
                        None
                    }
                };
                for (index, (variable, _)) in resolver.inject.iter().enumerate() {
                    let value = values.as_ref().and_then(|values| values.get(index)).cloned().unwrap_or_default();
                    context.push((variable.clone(), value));
                }
                steps.push(Step {
                    resolver: Arc::clone(resolver),
                    params: question.params.to_vec(),
                    verdict: Some((verdict, origin)),
                    took,
                });
                if resolver.on_change != OnChange::Keep {
                    watched.push(question);
                }
            }
            if let Some(error) = failure {
                return Err(error);
            }
        }
        let found: Found = context.split_off(given);
        within_bounds(found.iter().map(|(_, value)| value)).map_err(|fault| ResolveError { resolver: None, fault })?;
        Ok(Ran { found, watched, facts: runner.facts() })
    }

    /// The answers to all questions of a level, in their order.
    async fn run_level<S>(
        &self,
        job: &Job,
        scope: &Scope,
        questions: &[Question],
        runner: &mut Runner<'_, S>,
    ) -> Vec<(Verdict, Origin, Duration)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (sender, mut due) = mpsc::unbounded_channel();
        let answers = join_all(questions.iter().map(|question| self.answer(job, question, &sender)));
        let run = async {
            // What is asked for at once goes out at once.
            let mut batch = Vec::new();
            while due.recv_many(&mut batch, usize::MAX).await > 0 {
                let (questions, senders): (Vec<Question>, Vec<oneshot::Sender<Verdict>>) = batch.drain(..).unzip();
                let started = Instant::now();
                let verdicts = match runner.ask(scope, &questions).await {
                    Ok(verdicts) => verdicts,
                    Err(fault) => vec![Err(fault); questions.len()],
                };
                for ((question, verdict), sender) in questions.iter().zip(verdicts).zip(senders) {
                    self.figures.executed(&question.resolver.name, started.elapsed(), verdict.is_err());
                    let _ = sender.send(verdict);
                }
            }
            std::future::pending().await
        };
        tokio::select! {
            biased;
            answers = answers => answers,
            never = run => never,
        }
    }

    async fn answer(
        &self,
        job: &Job,
        question: &Question,
        due: &mpsc::UnboundedSender<(Question, oneshot::Sender<Verdict>)>,
    ) -> (Verdict, Origin, Duration) {
        let started = Instant::now();
        let execute = || async {
            match &question.resolver.source {
                Source::Sql(_) => {
                    let (sender, answer) = oneshot::channel();
                    let _ = due.send((question.clone(), sender));
                    answer.await.unwrap_or(Err(Fault::Stopped))
                }
                Source::Code(code) => {
                    let answered = tokio::time::timeout(job.limit, code.resolve(&job.database, &question.params)).await;
                    let verdict = of_code(&question.resolver, answered.map_err(|_| Fault::Slow(job.limit)));
                    self.figures.executed(&question.resolver.name, started.elapsed(), verdict.is_err());
                    verdict
                }
            }
        };
        let is_cached = !question.resolver.cache_ttl.is_zero() && self.may_keep(job);
        let (verdict, origin) = match is_cached {
            true => self.results.get(&key(job, question), execute).await,
            false => (execute().await, Origin::Asked),
        };
        self.figures.answered(&question.resolver.name, origin, is_cached);
        (verdict, origin, started.elapsed())
    }

    /// False where a change could go unnoticed.
    fn may_keep(&self, job: &Job) -> bool {
        !job.notify || job.access.as_ref().is_none_or(|access| self.listeners.is_listening(access))
    }
}

fn key(job: &Job, question: &Question) -> Key {
    Key {
        upstream: job.upstream.clone(),
        database: Arc::clone(&job.database),
        role: job.role().into(),
        context: job.identity.context().flat_map(|(name, value)| [name.to_string(), value.to_owned()]).collect(),
        question: question.clone(),
    }
}

/// Closes what nobody has used of late, until `stopped`.
pub(crate) async fn keep(shared: Arc<Shared>) {
    const SWEEP_INTERVAL: Duration = Duration::from_secs(30);
    let sweeping = async {
        loop {
            tokio::time::sleep(SWEEP_INTERVAL).await;
            shared.resolving_so_far().into_iter().for_each(|resolving| resolving.sites.sweep());
        }
    };
    shared.stopped.run_until_cancelled(sweeping).await;
}

/// Where queries run.
enum Runner<'a, S> {
    /// On the session's own connection.
    Own {
        site: Site<'a, S>,
        limit: Duration,
    },
    /// On one of the proxy's.
    Proxys {
        access: &'a Access,
        resolving: &'a Resolving,
    },
    None,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Runner<'_, S> {
    async fn ask(&mut self, scope: &Scope, questions: &[Question]) -> Result<Vec<Verdict>, Fault> {
        match self {
            Self::Own { site, limit } => {
                if scope.is_signed() && site.facts.is_none() {
                    site.facts = Some(attach(site.conn, site.parameters).await?);
                }
                ask(site, scope, questions, *limit).await
            }
            Self::Proxys { access, resolving } => {
                resolving.sites.ask(access, scope, questions, &resolving.deriver).await
            }
            Self::None => Err(Fault::Gone("there is no connection to ask on".into())),
        }
    }

    fn facts(&self) -> Option<Facts> {
        match self {
            Self::Own { site, .. } => site.facts,
            _ => None,
        }
    }
}
