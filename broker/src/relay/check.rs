//! Compares the channels that have sessions here with the store, for the bus loses in silence.
//!
//! Positions, every two seconds at most: a channel whose last message was lost shows nothing, and the store tells. Members,
//! every thirty seconds: the word that someone was taken out may be lost, too. Both at once when the bus was away.
//! It asks for many channels of a tenant in one statement, and it must not press on a store that is slow: a tenant is
//! asked one question at a time, few tenants at once, and after a failure not again for a while. No tenant waits for
//! another's answer.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::delivery::Relay;
use crate::hub::Feed;
use crate::model::{ChannelId, ChannelKey, Clock, Position, TenantSlug};
use crate::store::StoreError;

/// How often it is looked what is due.
const TICK: Duration = Duration::from_millis(500);

/// The longest time from one check of a tenant's positions to the next; with [`TICK`], two seconds.
const POSITIONS_EVERY: Duration = Duration::from_millis(1_500);

/// The same of members; with [`TICK`], thirty seconds.
const MEMBERS_EVERY: Duration = Duration::from_millis(29_500);

// What docs/operations.md promises: two seconds for a last message that was lost, thirty for a member who was taken out.
const _: () = assert!(POSITIONS_EVERY.as_millis() + TICK.as_millis() <= 2_000);
const _: () = assert!(MEMBERS_EVERY.as_millis() + TICK.as_millis() <= 30_000);

/// The pause after a check that failed.
const BACK_OFF: Duration = Duration::from_secs(3);

/// How many channels, or members of them, one statement asks for.
const BATCH: usize = 500;

/// Checks until the relay is gone. `suspect` changes when the bus may have lost anything of any channel.
pub(super) async fn run(relay: Weak<Relay>, mut suspect: watch::Receiver<()>, clock: Clock) {
    let mut schedule = Schedule { clock, tenants: HashMap::new(), failing: 0 };
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let at_once = tokio::select! {
            changed = suspect.changed() => match changed {
                Ok(()) => true,
                Err(_) => return,
            },
            _ = tick.tick() => false,
        };
        let Some(relay) = relay.upgrade() else { return };
        schedule.look(&relay, at_once);
    }
}

/// The channels of one tenant that have sessions here.
type Channels = Vec<(ChannelId, Arc<Feed>)>;

#[derive(Debug, Clone, Copy)]
enum Subject {
    Positions,
    Members,
}

impl Subject {
    const ALL: [Self; 2] = [Self::Positions, Self::Members];

    fn name(self) -> &'static str {
        match self {
            Self::Positions => "positions",
            Self::Members => "members",
        }
    }

    /// The time from a check that went well to the next one, between half and all of the longest: nodes that started together, or
    /// lost the bus together, do not ask together for ever.
    fn pause(self, clock: &Clock) -> Duration {
        let longest = match self {
            Self::Positions => POSITIONS_EVERY,
            Self::Members => MEMBERS_EVERY,
        };
        let [random] = clock.random();
        longest / 2 + longest / 2 * u32::from(random) / u32::from(u8::MAX)
    }

    async fn check(self, relay: Arc<Relay>, tenant: TenantSlug, channels: Channels) -> Result<(), StoreError> {
        match self {
            Self::Positions => relay.check_positions(&tenant, &channels).await,
            Self::Members => relay.check_members(&tenant, &channels).await,
        }
    }
}

/// When which tenant is asked what.
struct Schedule {
    clock: Clock,
    tenants: HashMap<TenantSlug, [Duty; Subject::ALL.len()]>,
    /// How many duties failed the last time.
    failing: usize,
}

/// One question to one tenant.
#[derive(Default)]
struct Duty {
    /// The check under way.
    check: Option<JoinHandle<Result<(), StoreError>>>,
    /// While a check is under way, when it began. None: at once.
    due: Option<Instant>,
    failing: bool,
}

impl Schedule {
    fn look(&mut self, relay: &Arc<Relay>, at_once: bool) {
        let channels = relay.hub.channels();
        self.forget_all_but(&channels);
        for (tenant, channels) in channels {
            let duties = self.tenants.entry(tenant.clone()).or_default();
            for (subject, duty) in Subject::ALL.into_iter().zip(duties) {
                if let Some(answer) = duty.check.as_mut().and_then(FutureExt::now_or_never) {
                    duty.check = None;
                    // A check that panicked has said so, and is due again as one that failed.
                    let answer = answer.unwrap_or_else(|panic| Err(StoreError::Failed(Box::new(panic))));
                    // Not when it became due while it was under way: what it read may be older than the cause.
                    duty.due = duty.due.map(|begun| match &answer {
                        Ok(()) => begun + subject.pause(&self.clock),
                        Err(_) => Instant::now() + BACK_OFF,
                    });
                    duty.note(&mut self.failing, &tenant, subject, answer);
                }
                if at_once {
                    duty.due = None;
                }
                if duty.check.is_none() && duty.due.is_none_or(|due| due <= Instant::now()) {
                    let check = subject.check(Arc::clone(relay), tenant.clone(), channels.clone());
                    duty.check = Some(tokio::spawn(check));
                    duty.due = Some(Instant::now());
                }
            }
        }
    }

    /// Tenants without sessions here are of no concern.
    fn forget_all_but(&mut self, present: &HashMap<TenantSlug, Channels>) {
        let failing = &mut self.failing;
        self.tenants.retain(|tenant, duties| {
            let stays = present.contains_key(tenant);
            if !stays {
                *failing -= duties.iter().filter(|duty| duty.failing).count();
            }
            stays
        });
    }
}

impl Duty {
    /// Says a failure once: an absent store is the same to all tenants.
    fn note(&mut self, all: &mut usize, tenant: &TenantSlug, subject: Subject, answer: Result<(), StoreError>) {
        let result = if answer.is_ok() { "ok" } else { "failed" };
        metrics::counter!("switchboard_checks_total", "subject" => subject.name(), "result" => result).increment(1);
        match answer {
            Ok(()) if self.failing => {
                self.failing = false;
                *all -= 1;
                if *all == 0 {
                    tracing::info!("all channels are checked against the store again");
                }
            }
            Err(error) if !self.failing => {
                self.failing = true;
                *all += 1;
                if *all == 1 || !error.is_unavailable() {
                    let subject = subject.name();
                    tracing::warn!(%error, %tenant, subject, "failed to check channels against the store");
                }
            }
            _ => {}
        }
    }
}

impl Relay {
    /// Finds channels that have more in the store than came here, and those that the store numbers anew.
    async fn check_positions(self: &Arc<Self>, tenant: &TenantSlug, channels: &Channels) -> Result<(), StoreError> {
        let key = |channel| ChannelKey { tenant: tenant.clone(), channel };
        for batch in channels.chunks(BATCH) {
            let permit = self.checks.acquire().await.expect("the semaphore is never closed");
            // Before the store is asked: what has come by now, its answer has, too.
            let asked: Vec<_> = batch
                .iter()
                .filter_map(|(channel, feed)| feed.place().map(|(epoch, seq)| (*channel, feed, epoch, seq)))
                .collect();
            if asked.is_empty() {
                continue;
            }
            let ids: Vec<ChannelId> = asked.iter().map(|(channel, ..)| *channel).collect();
            let found = self.store.positions(tenant, &ids).await?;
            drop(permit);
            let found: HashMap<ChannelId, Position> = found.into_iter().map(|at| (at.channel, at)).collect();
            let mut lost = Vec::new();
            for (channel, feed, epoch, seq) in asked {
                let at = found.get(&channel);
                if at.map(|at| &at.epoch) != epoch.as_ref() || at.is_some_and(|at| at.seq < seq) {
                    lost.push((key(channel), Arc::clone(feed)));
                } else if at.is_some_and(|at| feed.expect(at.seq).is_some()) {
                    self.repair(&key(channel), feed);
                }
            }
            if !lost.is_empty() {
                self.lose(lost, "the store numbers it anew");
            }
        }
        Ok(())
    }

    /// Cuts off the sessions here of those who are no longer in their channel.
    async fn check_members(&self, tenant: &TenantSlug, channels: &Channels) -> Result<(), StoreError> {
        let mut subscribed =
            channels.iter().flat_map(|(channel, feed)| feed.users().into_iter().map(|user| (*channel, user)));
        loop {
            let batch: Vec<_> = subscribed.by_ref().take(BATCH).collect();
            if batch.is_empty() {
                return Ok(());
            }
            let permit = self.checks.acquire().await.expect("the semaphore is never closed");
            let members: HashSet<_> = self.store.members_among(tenant, &batch).await?.into_iter().collect();
            drop(permit);
            for (channel, user) in batch.iter().filter(|subscribed| !members.contains(*subscribed)) {
                self.hub.revoke(&ChannelKey { tenant: tenant.clone(), channel: *channel }, user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_pause_is_longer_than_the_longest_and_they_differ() {
        let clock = Clock::system();
        for (subject, longest) in [(Subject::Positions, POSITIONS_EVERY), (Subject::Members, MEMBERS_EVERY)] {
            let pauses: HashSet<Duration> = (0..1_000).map(|_| subject.pause(&clock)).collect();
            assert!(pauses.iter().all(|pause| (longest / 2..=longest).contains(pause)), "{pauses:?}");
            assert!(pauses.len() > 100, "nodes do not ask together for ever");
        }
    }
}
