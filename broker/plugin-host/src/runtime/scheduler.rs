//! Decides which call runs next when not all can run at once.
//!
//! The tenant that has used the least processor time goes first, as in fair queueing. A busy tenant therefore waits
//! behind its own calls: they queue separately, bounded for each generation, and one tenant gets at most half of the
//! node's permits. A tenant that was idle resumes at the current virtual time; it gets no credit for time it did not
//! use.
//!
//! The scheduler hands out permits and never runs anything. Every permit is returned exactly once, by dropping it: also
//! when its call fails, is cancelled, or never noticed that it got one.
//!
//! Calls of a generation that was recently slow for a tenant are limited to half of the processors, and run in the
//! background from the start.
//!
//! `State::running` is always the sum over all tenants, and `State::ready` holds the tenants with a queued call that
//! their own bounds allow to run. Start with [`Scheduler::permit`].

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::contract::host::usage::Usage;
use crate::error::CallError;
use crate::limits::{Bounds, Limits};
use crate::runtime::pool::Serial;
use switchboard_model::TenantSlug;

/// Calls after a slow one that count as slow as well.
const SLOW_FOR: u32 = 8;

/// Tenants remembered although they have nothing queued, so that a call rarely has to create an entry.
const REMEMBERED: usize = 1_024;

/// The scheduler of a node. One lock guards everything; it is never held across an await.
pub(crate) struct Scheduler {
    state: Mutex<State>,
    most: usize,
    share: usize,
    slow_share: usize,
    wait: Duration,
}

#[derive(Default)]
struct State {
    running: usize,
    /// Virtual time, in nanoseconds; it never goes back: the processor time that the tenant granted a permit last had
    /// used before.
    now: u64,
    tenants: HashMap<TenantSlug, Tenant>,
    /// Tenants with a call that could run, ordered by processor time used.
    ready: BTreeSet<(u64, TenantSlug)>,
}

#[derive(Default)]
struct Tenant {
    used: u64,
    running: usize,
    queues: Vec<Queue>,
    ready_at: Option<u64>,
}

/// The calls of a tenant in one generation.
struct Queue {
    generation: Serial,
    running: usize,
    most: usize,
    slow: u32,
    waiting: VecDeque<oneshot::Sender<bool>>,
}

/// Permission to run one call. Dropping it passes it on.
pub(crate) struct RunPermit {
    scheduler: Arc<Scheduler>,
    tenant: TenantSlug,
    generation: Serial,
    slow: bool,
    used: Duration,
    was_slow: bool,
    /// The call under way, so that a permit dropped early still charges its time.
    running: Option<Arc<Usage>>,
}

impl Scheduler {
    pub(crate) fn new(bounds: &Bounds) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            state: Mutex::default(),
            most: bounds.running,
            share: (bounds.running / 2).max(1),
            slow_share: (processors / 2).max(1),
            wait: bounds.wait,
        }
    }

    /// Waits for a permit. Refused if too many calls are queued already, or if the wait takes too long.
    pub(crate) async fn permit(
        self: &Arc<Self>,
        generation: Serial,
        tenant: &TenantSlug,
        limits: &Limits,
    ) -> Result<RunPermit, CallError> {
        let made = |slow| RunPermit {
            scheduler: Arc::clone(self),
            tenant: tenant.clone(),
            generation,
            slow,
            used: Duration::ZERO,
            was_slow: slow,
            running: None,
        };
        let receiver = match self.enter(generation, tenant, limits)? {
            Entered::Now(slow) => return Ok(made(slow)),
            Entered::Queue(receiver) => receiver,
        };
        // From here on the permit may be granted at any moment, even after this future is dropped. `Waiting` returns it
        // then.
        let mut waiting = Waiting { scheduler: self, generation, tenant, receiver };
        match tokio::time::timeout(self.wait, &mut waiting.receiver).await {
            Ok(Ok(slow)) => Ok(made(slow)),
            Ok(Err(_)) | Err(_) => Err(CallError::Busy),
        }
    }

    fn enter(&self, generation: Serial, tenant: &TenantSlug, limits: &Limits) -> Result<Entered, CallError> {
        let mut state = self.state.lock();
        let now = state.now;
        let full = state.running >= self.most;
        if !state.tenants.contains_key(tenant) {
            state.make_room();
            state.tenants.insert(tenant.clone(), Tenant { used: now, ..Tenant::default() });
        }
        let entry = state.tenants.get_mut(tenant).expect("it was there or made");
        // An idle tenant resumes at the current virtual time.
        if entry.running == 0 && entry.ready_at.is_none() {
            entry.used = entry.used.max(now);
        }
        let shared = entry.running >= self.share;
        let used = entry.used;
        let queue = entry.queue(generation);
        queue.most = limits.running;
        if !full && !shared && queue.waiting.is_empty() && queue.running < queue.bound(self.slow_share) {
            queue.running += 1;
            let slow = queue.slow > 0;
            entry.running += 1;
            state.running += 1;
            state.now = now.max(used);
            return Ok(Entered::Now(slow));
        }
        if queue.waiting.len() >= limits.waiting {
            // Callers that gave up still occupy the queue. Remove them before refusing.
            queue.waiting.retain(|waiting| !waiting.is_closed());
            if queue.waiting.len() >= limits.waiting {
                return Err(CallError::Busy);
            }
        }
        let (sender, receiver) = oneshot::channel();
        queue.waiting.push_back(sender);
        state.refresh(tenant, self);
        Ok(Entered::Queue(receiver))
    }

    fn leave(&self, generation: Serial, tenant: &TenantSlug, used: Duration, was_slow: Option<bool>) {
        let mut state = self.state.lock();
        state.running -= 1;
        if let Some(entry) = state.tenants.get_mut(tenant) {
            entry.running -= 1;
            entry.used = entry.used.saturating_add(u64::try_from(used.as_nanos()).unwrap_or(u64::MAX));
            let queue = entry.queue(generation);
            queue.running -= 1;
            match was_slow {
                Some(true) => queue.slow = SLOW_FOR,
                Some(false) => queue.slow = queue.slow.saturating_sub(1),
                None => {}
            }
            // Drop queues that hold no state once there are many: their generations are likely gone.
            if queue.running == 0 && queue.waiting.is_empty() && queue.slow == 0 && entry.queues.len() > 16 {
                entry.queues.retain(|queue| queue.running > 0 || !queue.waiting.is_empty() || queue.slow > 0);
            }
            let waits = entry.ready_at.is_some() || entry.queues.iter().any(|queue| !queue.waiting.is_empty());
            if waits {
                state.refresh(tenant, self);
            }
        }
        state.give(self);
    }
}

enum Entered {
    Now(bool),
    Queue(oneshot::Receiver<bool>),
}

impl State {
    /// Grants permits while there are free ones and calls that may take them.
    fn give(&mut self, scheduler: &Scheduler) {
        while self.running < scheduler.most {
            let Some((used, tenant)) = self.ready.first().cloned() else { return };
            let entry = self.tenants.get_mut(&tenant).expect("who waits has an entry");
            if let Some(queue) = entry.queues.iter_mut().find(|queue| queue.is_ready(scheduler.slow_share)) {
                let next = queue.waiting.pop_front().expect("a queue that is ready has someone waiting");
                let slow = queue.slow > 0;
                // A closed receiver means its caller is gone. The permit stays free for the next.
                if next.send(slow).is_ok() {
                    queue.running += 1;
                    entry.running += 1;
                    self.running += 1;
                    self.now = self.now.max(used);
                    // Round robin between the tenant's own plugins.
                    entry.queues.rotate_left(1);
                }
            }
            self.refresh(&tenant, scheduler);
        }
    }

    /// Updates the tenant's entry in `ready`. Must follow every change of its queues, its running calls or its time.
    fn refresh(&mut self, tenant: &TenantSlug, scheduler: &Scheduler) {
        let Some(entry) = self.tenants.get_mut(tenant) else { return };
        let ready =
            entry.running < scheduler.share && entry.queues.iter().any(|queue| queue.is_ready(scheduler.slow_share));
        let wanted = ready.then_some(entry.used);
        if wanted == entry.ready_at {
            return;
        }
        if let Some(former) = entry.ready_at {
            self.ready.remove(&(former, tenant.clone()));
        }
        if let Some(used) = wanted {
            self.ready.insert((used, tenant.clone()));
        }
        entry.ready_at = wanted;
    }

    /// Forgets idle tenants whose time is not ahead of the others'.
    fn make_room(&mut self) {
        if self.tenants.len() >= REMEMBERED && self.tenants.len() >= 2 * self.running {
            let now = self.now;
            let idle =
                |tenant: &Tenant| tenant.queues.iter().all(|queue| queue.running == 0 && queue.waiting.is_empty());
            self.tenants.retain(|_, tenant| !idle(tenant) || tenant.used > now);
        }
    }
}

impl Tenant {
    fn queue(&mut self, generation: Serial) -> &mut Queue {
        let at = self.queues.iter().position(|queue| queue.generation == generation).unwrap_or_else(|| {
            self.queues.push(Queue { generation, running: 0, most: 1, slow: 0, waiting: VecDeque::new() });
            self.queues.len() - 1
        });
        &mut self.queues[at]
    }
}

impl Queue {
    fn bound(&self, slow_share: usize) -> usize {
        if self.slow > 0 { self.most.min(slow_share) } else { self.most }
    }

    fn is_ready(&self, slow_share: usize) -> bool {
        !self.waiting.is_empty() && self.running < self.bound(slow_share)
    }
}

impl RunPermit {
    /// Whether recent calls were slow, so that this one begins in the background.
    pub(crate) fn is_slow(&self) -> bool {
        self.slow
    }

    /// Starts a call that is timed by `usage`. A permit dropped before [`RunPermit::spent`] charges that time and
    /// counts as slow: the call was abandoned.
    pub(crate) fn begin(&mut self, usage: &Arc<Usage>) {
        self.running = Some(Arc::clone(usage));
    }

    /// Charges time used since the last report, and whether it was slow.
    pub(crate) fn spent(&mut self, used: Duration, was_slow: bool) {
        self.running = None;
        self.used += used;
        self.was_slow = was_slow;
    }
}

impl Drop for RunPermit {
    fn drop(&mut self) {
        let (used, was_slow) = match self.running.take() {
            Some(usage) => (self.used + usage.used(), true),
            None => (self.used, self.was_slow),
        };
        self.scheduler.leave(self.generation, &self.tenant, used, Some(was_slow));
    }
}

struct Waiting<'a> {
    scheduler: &'a Scheduler,
    generation: Serial,
    tenant: &'a TenantSlug,
    receiver: oneshot::Receiver<bool>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.receiver.close();
        // A permit granted too late to be noticed goes to the next.
        if self.receiver.try_recv().is_ok() {
            self.scheduler.leave(self.generation, self.tenant, Duration::ZERO, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn scheduler(running: usize) -> Arc<Scheduler> {
        Arc::new(Scheduler { slow_share: 1, ..Scheduler::new(&Bounds { running, ..Bounds::default() }) })
    }

    fn tenant(name: &str) -> TenantSlug {
        name.parse().unwrap()
    }

    /// A permit that is granted at once.
    fn now(scheduler: &Arc<Scheduler>, name: &str, limits: &Limits) -> Option<RunPermit> {
        scheduler.permit(1, &tenant(name), limits).now_or_never().map(|permit| permit.unwrap())
    }

    #[tokio::test]
    async fn the_tenant_that_used_least_goes_first() {
        let (scheduler, limits) = (scheduler(2), Limits::default());
        let mut hog = now(&scheduler, "hog", &limits).unwrap();
        let other = now(&scheduler, "other", &limits).unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        // The hog asks first and often; the others ask once each, later.
        for name in ["hog", "hog", "hog", "small", "other"] {
            let (scheduler, order, limits) = (Arc::clone(&scheduler), Arc::clone(&order), limits.clone());
            tasks.push(tokio::spawn(async move {
                let mut permit = scheduler.permit(1, &tenant(name), &limits).await.unwrap();
                order.lock().push(name);
                permit.spent(Duration::from_millis(10), false);
            }));
            tokio::task::yield_now().await;
        }
        hog.spent(Duration::from_secs(1), false);
        drop((hog, other));
        for task in tasks {
            task.await.unwrap();
        }
        let order = order.lock();
        let last: Vec<&str> = order[order.len() - 2..].to_vec();
        assert_eq!(last, ["hog", "hog"], "{order:?}");
        assert!(order[..3].contains(&"small") && order[..3].contains(&"other"), "{order:?}");
    }

    #[tokio::test]
    async fn whoever_goes_away_during_a_call_pays_for_it() {
        let (scheduler, limits) = (scheduler(8), Limits::default());
        let mut given_up = now(&scheduler, "acme", &limits).unwrap();
        let usage = Arc::new(Usage::new());
        usage.begin(Duration::from_secs(1));
        given_up.begin(&usage);
        usage.add(Duration::from_millis(30));
        drop(given_up);
        assert_eq!(scheduler.state.lock().tenants[&tenant("acme")].used, 30_000_000);
        assert!(now(&scheduler, "acme", &limits).unwrap().is_slow(), "and is taken for slow");
    }

    #[tokio::test]
    async fn a_tenant_has_a_share_and_leaves_the_rest_to_others() {
        let (scheduler, limits) = (scheduler(8), Limits { running: 64, ..Limits::default() });
        let held: Vec<RunPermit> = (0..4).map(|_| now(&scheduler, "hog", &limits).unwrap()).collect();
        assert!(now(&scheduler, "hog", &limits).is_none(), "half of them");
        assert!(now(&scheduler, "other", &limits).is_some());
        drop(held);
        assert!(now(&scheduler, "hog", &limits).is_some());
    }

    #[tokio::test]
    async fn what_waits_is_bounded_and_who_goes_away_leaves_its_place() {
        let (scheduler, limits) = (scheduler(8), Limits { running: 1, waiting: 1, ..Limits::default() });
        let held = now(&scheduler, "acme", &limits).unwrap();
        let acme = tenant("acme");
        let mut first = Box::pin(scheduler.permit(1, &acme, &limits));
        assert!(first.as_mut().now_or_never().is_none());
        assert_eq!(scheduler.permit(1, &acme, &limits).await.err(), Some(CallError::Busy));
        assert!(now(&scheduler, "globex", &limits).is_some(), "another tenant's queue is its own");
        drop(first);
        let mut second = Box::pin(scheduler.permit(1, &acme, &limits));
        assert!(second.as_mut().now_or_never().is_none(), "there is room again");
        // The permit is granted, and its caller is gone before it notices.
        drop(held);
        drop(second);
        assert!(now(&scheduler, "acme", &limits).is_some(), "it was passed on");
        assert_eq!(scheduler.state.lock().running, 0);
    }

    #[tokio::test]
    async fn a_plugin_that_was_slow_has_one_call_at_a_time_until_it_is_quick_again() {
        let (scheduler, limits) = (scheduler(8), Limits::default());
        let mut slow = now(&scheduler, "acme", &limits).unwrap();
        assert!(!slow.is_slow());
        slow.spent(Duration::from_millis(50), true);
        drop(slow);
        for _ in 0..SLOW_FOR {
            let mut permit = now(&scheduler, "acme", &limits).unwrap();
            assert!(permit.is_slow());
            assert!(now(&scheduler, "acme", &limits).is_none(), "one at a time");
            permit.spent(Duration::from_micros(5), false);
        }
        let (a, b) = (now(&scheduler, "acme", &limits), now(&scheduler, "acme", &limits));
        assert!(a.is_some_and(|permit| !permit.is_slow()) && b.is_some());
    }
}
