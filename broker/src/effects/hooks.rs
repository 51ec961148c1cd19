//! Post-commit hooks: tells plugins of stored messages whose kind they watch, and applies what they ask for.
//!
//! Nothing here can hold the sender's ack up or take the message back. Calls are tried a few times and
//! wait in memory alone, so what is not done when the node dies is lost: see decision 11. Nothing here knows a kind.

mod queue;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use self::queue::{Bounds, Job, Queue};
use super::apply::{ApplyError, Cause, Effects};
use super::publish::AfterCommit;
use crate::model::{ChannelKey, Event, Message};
use crate::plugin::{CallError, Generation, Handler, Registry};

/// What is stored by `stored` is watched in turn, up to so many calls after an event: enough for plugins that answer each
/// other, and an end for those that would do so for ever.
const MOST_DEPTH: u8 = 3;

/// How often a plugin is told of a message, and how long to wait after each try but the last.
const PAUSES: [Option<Duration>; 3] = [Some(Duration::from_millis(100)), Some(Duration::from_secs(1)), None];

/// The longest time after which a plugin that asks for a later try gets one. Its channel's later messages wait so long.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

const BOUNDS: Bounds = Bounds { waiting: 1_024, bytes: 64 << 20, running: 8 };

/// Tells plugins what was stored.
pub struct Hooks {
    registry: Arc<Registry>,
    queue: Queue,
    /// When the log last had a line about what was dropped.
    reported: Mutex<Option<Instant>>,
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hooks").field("queue", &self.queue).finish_non_exhaustive()
    }
}

/// Why a plugin did not do what it would have.
enum Missed {
    /// It may do it another time, after so long at least.
    Now(Duration, String),
    /// It does not want to, or cannot: another try would end in the same way.
    Final(String),
}

impl Hooks {
    /// Nothing is told before [`Hooks::start`].
    pub fn new(registry: Arc<Registry>) -> Arc<Self> {
        Arc::new(Self { registry, queue: Queue::new(BOUNDS), reported: Mutex::default() })
    }

    /// What commits are to be followed by.
    pub fn after_commit(self: &Arc<Self>) -> AfterCommit {
        let hooks = Arc::clone(self);
        Arc::new(move |channel, messages, depth| hooks.queue_up(channel, messages, depth))
    }

    /// Tells plugins from now on, and applies what they ask for here.
    pub fn start(self: &Arc<Self>, effects: Effects) {
        let hooks = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                let job = hooks.queue.next().await;
                let (hooks, effects) = (Arc::clone(&hooks), effects.clone());
                tokio::spawn(async move {
                    let in_hand = InHand { hooks: &hooks, job };
                    hooks.tell(&effects, &in_hand.job).await;
                });
            }
        });
    }

    /// Waits until everything that was to be told has been told, or was given up.
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
                metrics::counter!("switchboard_stored_dropped_total", "reason" => reason).increment(1);
                self.report_drop(channel, &watcher.generation, reason);
            }
        }
    }

    /// Says in the log that something is dropped, at most once a second: the metric has the number.
    fn report_drop(&self, channel: &ChannelKey, generation: &Generation, reason: &'static str) {
        let mut reported = self.reported.lock();
        if reported.is_none_or(|at| at.elapsed() >= Duration::from_secs(1)) {
            *reported = Some(Instant::now());
            let (plugin, tenant) = (generation.name(), &channel.tenant);
            tracing::warn!(plugin, %tenant, reason, "plugins are not told of stored messages");
        }
    }

    async fn tell(&self, effects: &Effects, job: &Job) {
        let Job { channel, message, plugin, .. } = job;
        // The handler is taken once and kept for all tries, as an event's is.
        let watchers = self.registry.watchers(channel, &message.kind);
        let Some(watcher) = watchers.into_iter().find(|watcher| watcher.generation.plugin() == plugin) else {
            return count(job, "gone");
        };
        let event = Event {
            kind: message.kind.clone(),
            payload: "{}".to_owned(),
            channel: channel.channel,
            user: message.sender.clone(),
            session: None,
            client_id: None,
            id: message.id,
            at: message.created_at,
        };
        for pause in PAUSES {
            let reason = match attempt(effects, job, &event, &watcher).await {
                Ok(()) => return count(job, "ok"),
                Err(Missed::Final(reason)) => {
                    count(job, "refused");
                    return report(job, &watcher.generation, &reason, "a plugin does nothing about a stored message");
                }
                Err(Missed::Now(after, reason)) => {
                    if let Some(pause) = pause {
                        count(job, "again");
                        // Others of the tenant do not wait for it meanwhile.
                        self.queue.put_aside(job);
                        tokio::time::sleep(pause.max(after).min(LONGEST_PAUSE)).await;
                        self.queue.take_up(job).await;
                        continue;
                    }
                    reason
                }
            };
            count(job, "failed");
            report(job, &watcher.generation, &reason, "a plugin failed at a stored message and is not tried again");
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

/// What a failed call means for a further try.
fn again(error: CallError) -> Missed {
    match error {
        CallError::Invalid(_) | CallError::Denied(_) | CallError::Failed(_) | CallError::UnknownMessage => {
            Missed::Final(error.to_string())
        }
        CallError::Retry(after) => Missed::Now(Duration::from_millis(after.into()), error.to_string()),
        CallError::Trapped(_) | CallError::TimedOut | CallError::Busy => Missed::Now(Duration::ZERO, error.to_string()),
    }
}

fn count(job: &Job, result: &'static str) {
    let plugin = job.plugin.to_string();
    metrics::counter!("switchboard_stored_calls_total", "plugin" => plugin, "result" => result).increment(1);
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

/// A job that was begun. However it ends, also in a panic, the next of its lane begins.
struct InHand<'a> {
    hooks: &'a Hooks,
    job: Job,
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.hooks.queue.done(&self.job);
    }
}
