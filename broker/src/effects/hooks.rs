//! Post-commit hooks: calls plugins with stored messages whose kind they watch, and applies their effects.
//!
//! A hook runs after its message is stored and published. It can neither delay the sender's ack nor take the message
//! back, and its own effects go through the same path as an event's.
//!
//! Jobs wait in memory only and are tried at most three times, so what is not done when the node dies is lost: see
//! decision 11. Jobs beyond the queue's bounds are dropped and counted.
//!
//! Invariant: one plugin is called with the messages of one channel in the order of their `seq`, one at a time, unless
//! a message was dropped. A chain of hooks that trigger each other ends at [`MOST_DEPTH`].
//!
//! Nothing here knows a kind by name. Start with [`Hooks::after_commit`] and `Hooks::tell`.

mod queue;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use self::queue::{Bounds, Job, Queue};
use super::apply::{ApplyError, Cause, Effects};
use super::publish::AfterCommit;
use crate::metrics::{HOOK_CALLS, HOOKS_DROPPED, Value};
use crate::model::{ChannelKey, Event, Message};
use crate::plugin::{CallError, Generation, Handler, Registry};

/// How many hook calls may follow each other after an event: enough for plugins that answer each other, and an end for
/// those that would never stop.
const MOST_DEPTH: u8 = 3;

/// The pause after each attempt; `None` after the last.
const PAUSES: [Option<Duration>; 3] = [Some(Duration::from_millis(100)), Some(Duration::from_secs(1)), None];

/// The longest pause that a plugin can ask for. Later messages of the channel wait that long for it.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

const BOUNDS: Bounds = Bounds { waiting: 1_024, bytes: 64 << 20, running: 8 };

pub struct Hooks {
    registry: Arc<Registry>,
    queue: Queue,
    /// When a drop was last logged.
    reported: Mutex<Option<Instant>>,
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hooks").field("queue", &self.queue).finish_non_exhaustive()
    }
}

/// Why an attempt failed.
enum Missed {
    /// Another attempt may succeed, after this pause at least.
    Now(Duration, String),
    /// The plugin refused or cannot: another attempt would end the same way.
    Final(String),
}

impl Hooks {
    /// Calls nothing until [`Hooks::start`].
    pub fn new(registry: Arc<Registry>) -> Arc<Self> {
        Arc::new(Self { registry, queue: Queue::new(BOUNDS), reported: Mutex::default() })
    }

    /// The callback that the publisher invokes after a commit.
    pub fn after_commit(self: &Arc<Self>) -> AfterCommit {
        let hooks = Arc::clone(self);
        Arc::new(move |channel, messages, depth| hooks.queue_up(channel, messages, depth))
    }

    /// Starts to call plugins, and applies their effects to `effects`.
    pub fn start(self: &Arc<Self>, effects: Effects) {
        let hooks = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                let job = hooks.queue.next().await;
                let (hooks, effects) = (Arc::clone(&hooks), effects.clone());
                tokio::spawn(async move {
                    let in_hand = InHand { hooks: &hooks, job };
                    hooks.call(&effects, &in_hand.job).await;
                });
            }
        });
    }

    /// Waits until no job waits or runs.
    pub async fn finish(&self) {
        self.queue.empty().await;
    }

    fn queue_up(&self, channel: &ChannelKey, messages: &[Message], depth: u8) {
        for message in messages {
            let watchers = self.registry.watchers(channel, &message.kind);
            if watchers.is_empty() {
                continue;
            }
            let shared = Arc::new(message.clone());
            for watcher in watchers {
                let (message, plugin) = (Arc::clone(&shared), watcher.generation.plugin().clone());
                let job = Job { channel: channel.clone(), message, plugin, depth };
                let reason = if depth > MOST_DEPTH {
                    "too_deep"
                } else if self.queue.push(job).is_err() {
                    "queue_full"
                } else {
                    continue;
                };
                HOOKS_DROPPED.add([reason], 1);
                self.report_drop(channel, &watcher.generation, reason);
            }
        }
    }

    /// Logs a drop, at most once a second; the metric counts them all.
    fn report_drop(&self, channel: &ChannelKey, generation: &Generation, reason: &'static str) {
        let mut reported = self.reported.lock();
        if reported.is_none_or(|at| at.elapsed() >= Duration::from_secs(1)) {
            *reported = Some(Instant::now());
            let (plugin, tenant) = (generation.name(), &channel.tenant);
            tracing::warn!(plugin, %tenant, reason, "dropped calls of post-commit hooks");
        }
    }

    async fn call(&self, effects: &Effects, job: &Job) {
        let Job { channel, message, plugin, .. } = job;
        // One handler for all attempts, as for an event.
        let watchers = self.registry.watchers(channel, &message.kind);
        let Some(watcher) = watchers.into_iter().find(|watcher| watcher.generation.plugin() == plugin) else {
            return count(job, "gone");
        };
        let event = Event::of_stored(message);
        for pause in PAUSES {
            let reason = match attempt(effects, job, &event, &watcher).await {
                Ok(()) => return count(job, "ok"),
                Err(Missed::Final(reason)) => {
                    count(job, "refused");
                    return report(job, &watcher.generation, &reason, "a post-commit hook refused a message");
                }
                Err(Missed::Now(after, reason)) => {
                    if let Some(pause) = pause {
                        count(job, "again");
                        // Frees the slot for other jobs of the tenant.
                        self.queue.put_aside(job);
                        tokio::time::sleep(pause.max(after).min(LONGEST_PAUSE)).await;
                        self.queue.take_up(job).await;
                        continue;
                    }
                    reason
                }
            };
            count(job, "failed");
            report(job, &watcher.generation, &reason, "a post-commit hook failed and is not retried");
        }
    }
}

async fn attempt(effects: &Effects, job: &Job, event: &Event, watcher: &Handler) -> Result<(), Missed> {
    let cause = Cause::stored(&job.plugin, job.depth);
    let ask = || watcher.stored(&job.channel, event, &job.message);
    let carried = effects.carry_out(&job.channel, event, cause, None, ask).await;
    let applied = match carried {
        Ok(carried) => carried.applied().await,
        Err(undone) => Err(undone),
    };
    match applied {
        Ok(_) => Ok(()),
        Err(ApplyError::Call(error)) => {
            watcher.note_failure(&job.channel, &event.kind, &error);
            Err(again(error))
        }
        Err(ApplyError::Refused(refusal)) if refusal.code.retryable() => Err(Missed::Now(
            Duration::from_millis(refusal.retry_after_ms.unwrap_or(0).into()),
            refusal.message.to_string(),
        )),
        Err(ApplyError::Refused(refusal)) => Err(Missed::Final(refusal.message.to_string())),
    }
}

/// Whether a failed call deserves another attempt.
fn again(error: CallError) -> Missed {
    match error {
        CallError::Invalid(_) | CallError::Denied(_) | CallError::UnknownMessage => Missed::Final(error.to_string()),
        CallError::Retry(after) => Missed::Now(Duration::from_millis(after.into()), error.to_string()),
        // A guest that says it is at fault may only have met a host read that failed.
        CallError::Failed(_) | CallError::Trapped(_) | CallError::TimedOut | CallError::Busy => {
            Missed::Now(Duration::ZERO, error.to_string())
        }
    }
}

fn count(job: &Job, result: &'static str) {
    let plugin = job.plugin.to_string();
    HOOK_CALLS.add([Value::from(plugin), Value::from(result)], 1);
}

fn report(job: &Job, generation: &Generation, reason: &str, what: &'static str) {
    tracing::warn!(
        plugin = generation.name(),
        version = generation.version(),
        tenant = %job.channel.tenant,
        kind = %job.message.kind,
        reason,
        "{what}"
    );
}

/// A running job. However it ends, even in a panic, dropping this lets the next of its key begin.
struct InHand<'a> {
    hooks: &'a Hooks,
    job: Job,
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.hooks.queue.done(&self.job);
    }
}
