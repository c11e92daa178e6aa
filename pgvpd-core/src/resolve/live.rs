//! Sessions that go by what resolvers have found, and are told when that has changed.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::Stream;
use tokio::sync::watch;

use super::batch::Question;
use super::definition::OnChange;
use super::job::Job;
use crate::tenant::VariableName;

/// Values that resolvers have found, and their variables.
pub(crate) type Found = Vec<(VariableName, String)>;

/// What a session is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// To go on with these values, or else to end.
    Refresh(Found),
    /// To end.
    End,
}

/// Open sessions whose resolvers have an `on_change`.
#[derive(Debug, Default)]
pub(super) struct Live {
    members: Mutex<Members>,
}

#[derive(Debug, Default)]
struct Members {
    next: u64,
    members: HashMap<u64, Arc<Member>>,
}

/// What is known of an open session.
#[derive(Debug)]
pub(super) struct Member {
    /// How its context is worked out.
    pub(super) job: Job,
    state: Mutex<State>,
    /// It waits to be resolved again.
    is_due: AtomicBool,
    /// How often that has brought no answer since there was one.
    unanswered: AtomicU32,
    change: watch::Sender<Option<Change>>,
}

/// What a session goes by.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    /// Questions whose answers it is told of when they change.
    pub(super) watched: Vec<Question>,
    pub(super) found: Found,
}

/// Sessions that wait to be resolved again, each once: whoever may send notifications may send many.
#[derive(Debug, Default)]
pub(super) struct Renewals {
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    members: VecDeque<Arc<Member>>,
    workers: usize,
}

/// Sessions that are resolved again at once.
const WORKERS: usize = 8;

/// The pauses between turns that bring no answer, each twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// A session's place among those that are told. Dropping it leaves.
#[derive(Debug)]
pub(crate) struct Membership {
    live: Arc<Live>,
    number: u64,
    changes: watch::Receiver<Option<Change>>,
}

impl Live {
    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a session that goes by this.
    pub(super) fn enter(self: &Arc<Self>, job: Job, state: State) -> (Arc<Member>, Membership) {
        let (change, changes) = watch::channel(None);
        let member = Arc::new(Member {
            job,
            state: Mutex::new(state),
            is_due: AtomicBool::new(false),
            unanswered: AtomicU32::new(0),
            change,
        });
        let mut members = self.members();
        members.next += 1;
        let number = members.next;
        members.members.insert(number, Arc::clone(&member));
        (member, Membership { live: Arc::clone(self), number, changes })
    }

    /// Those that go by what this resolver has found for these parameters, or for any.
    pub(super) fn affected(
        &self,
        database: Option<&str>,
        resolver: Option<&str>,
        params: Option<&[String]>,
    ) -> Vec<Arc<Member>> {
        let is_affected = |member: &&Arc<Member>| {
            database.is_none_or(|database| *member.job.database == *database)
                && member.state().watched.iter().any(|question| {
                    resolver.is_none_or(|name| question.resolver.name == name)
                        && params.is_none_or(|params| *question.params == *params)
                })
        };
        self.members().members.values().filter(is_affected).cloned().collect()
    }
}

impl Renewals {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes these in. Gives how many more are to work on them, each until [`Worker::next`] has none.
    pub(super) fn add(&self, members: Vec<Arc<Member>>) -> usize {
        let mut queue = self.queue();
        queue.members.extend(members.into_iter().filter(|member| !member.is_due.swap(true, Ordering::SeqCst)));
        let more = WORKERS.min(queue.members.len()).saturating_sub(queue.workers);
        queue.workers += more;
        more
    }

    /// One that works on them.
    pub(super) fn worker(&self) -> Worker<'_> {
        Worker { renewals: self, is_over: false }
    }
}

/// Somebody who works on renewals. A panic, which a resolver of code may bring, ends the worker and not the others.
pub(super) struct Worker<'a> {
    renewals: &'a Renewals,
    is_over: bool,
}

impl Worker<'_> {
    /// The next session; where there is none, the work is over. What becomes void from here on is another turn.
    pub(super) fn next(&mut self) -> Option<Turn> {
        let mut queue = self.renewals.queue();
        while let Some(member) = queue.members.pop_front() {
            member.is_due.store(false, Ordering::SeqCst);
            if !member.change.is_closed() {
                return Some(Turn { member: Some(member) });
            }
        }
        // Under the same lock, so that nobody counts on a worker that has seen an empty queue.
        queue.workers = queue.workers.saturating_sub(1);
        self.is_over = true;
        None
    }
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            let mut queue = self.renewals.queue();
            queue.workers = queue.workers.saturating_sub(1);
        }
    }
}

/// A session that is being resolved again. Dropped before that is done, the session ends: what it goes by may be true no more.
pub(super) struct Turn {
    member: Option<Arc<Member>>,
}

impl Turn {
    pub(super) fn member(&self) -> &Member {
        // It is taken only by `done`, which takes the turn.
        self.member.as_deref().unwrap_or_else(|| unreachable!("a turn that is done"))
    }

    /// The session has been told.
    pub(super) fn done(mut self) {
        self.member = None;
    }

    /// Nothing has been found out: the session goes on as it is until it is its turn again, after this time.
    pub(super) fn postpone(mut self) -> Option<(Arc<Member>, Duration)> {
        let member = self.member.take()?;
        let times = member.unanswered.fetch_add(1, Ordering::Relaxed);
        let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(times)).min(LONGEST_PAUSE);
        Some((member, pause))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.member.take().into_iter().for_each(|member| member.tell(None));
    }
}

impl Member {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if its last turn has brought no answer.
    pub(super) fn is_unanswered(&self) -> bool {
        self.unanswered.load(Ordering::Relaxed) > 0
    }

    /// Tells the session what has been found now, where that is something else. `None`: nothing that it may go on with.
    pub(super) fn tell(&self, now: Option<State>) {
        self.unanswered.store(0, Ordering::Relaxed);
        let Some(now) = now else {
            self.change.send_replace(Some(Change::End));
            return;
        };
        let mut state = self.state();
        let has_changed = |variable: &VariableName| {
            let value = |found: &Found| found.iter().find(|(name, _)| name == variable).map(|(_, value)| value.clone());
            value(&state.found) != value(&now.found)
        };
        let watched = state.watched.iter().chain(&now.watched).map(|question| &question.resolver);
        let changed = watched.filter(|resolver| resolver.inject.iter().any(|(variable, _)| has_changed(variable)));
        // The strictest of those that have changed decides.
        let change = changed.map(|resolver| resolver.on_change).max().map(|on_change| match on_change {
            OnChange::Terminate => Change::End,
            OnChange::Refresh | OnChange::Keep => Change::Refresh(now.found.clone()),
        });
        let Some(change) = change else { return };
        *state = now;
        drop(state);
        self.change.send_replace(Some(change));
    }
}

impl Membership {
    /// The changes, one after the other.
    pub(crate) fn into_stream(self) -> impl Stream<Item = Change> + Send {
        futures_util::stream::unfold(self, async |mut membership| {
            let change = membership.changed().await;
            Some((change, membership))
        })
    }

    /// The next change. Safe to cancel.
    pub(crate) async fn changed(&mut self) -> Change {
        loop {
            if self.changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            if let Some(change) = self.changes.borrow_and_update().clone() {
                return change;
            }
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let member = self.live.members().members.remove(&self.number);
        drop(member);
    }
}
