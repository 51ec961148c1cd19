//! Compares channels that have sessions here with the store, because the bus loses messages silently.
//!
//! Positions are checked every two seconds at most: if a channel's newest message is lost, nothing on this node shows
//! it. Memberships are checked every thirty seconds, because a revocation may be lost as well. Both are checked at once
//! after the bus was away.
//!
//! The check must not strain a slow store. One statement asks about many channels of a tenant, a tenant has at most one
//! check of each subject under way, few statements run at once over all tenants, and a failed check pauses for
//! [`BACK_OFF`]. No tenant waits for another one's answer.
//!
//! It only detects. A gap is left to the repair, a renumbered channel is ended, and a former member is revoked.
//!
//! Invariant: a check that becomes due while one is under way runs again afterwards, because what the first one read
//! may predate the reason. Start with `Schedule::look`.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::delivery::Relay;
use crate::hub::Feed;
use crate::model::{ChannelId, ChannelKey, Clock, Position, TenantSlug, UserId};
use crate::store::StoreError;

/// How often due checks are looked for.
const TICK: Duration = Duration::from_millis(500);

/// The longest time between two checks of a tenant's positions; with [`TICK`], two seconds.
const POSITIONS_EVERY: Duration = Duration::from_millis(1_500);

/// The longest time between two checks of a tenant's members; with [`TICK`], thirty seconds.
const MEMBERS_EVERY: Duration = Duration::from_millis(29_500);

// The operations guide promises two seconds for a lost newest message, and thirty for a removed member.
const _: () = assert!(POSITIONS_EVERY.as_millis() + TICK.as_millis() <= 2_000);
const _: () = assert!(MEMBERS_EVERY.as_millis() + TICK.as_millis() <= 30_000);

/// The pause after a failed check.
const BACK_OFF: Duration = Duration::from_secs(3);

/// Channels, or memberships, in one statement.
const BATCH: usize = 500;

/// Checks until the relay is gone. `suspect` changes when the bus may have lost messages of any channel.
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

    /// The time from a successful check to the next, chosen at random between half and all of the longest. Otherwise
    /// nodes that started together, or lost the bus together, would ask together for ever.
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

/// What each tenant is asked next, and when.
struct Schedule {
    clock: Clock,
    tenants: HashMap<TenantSlug, [Duty; Subject::ALL.len()]>,
    /// Duties whose last check failed.
    failing: usize,
}

/// One kind of check for one tenant.
#[derive(Default)]
struct Duty {
    check: Option<JoinHandle<Result<(), StoreError>>>,
    /// While a check is under way, the time it began. `None` means at once.
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
                    // A check that panicked has logged that; treat it as failed.
                    let answer = answer.unwrap_or_else(|panic| Err(StoreError::Failed(Arc::new(panic))));
                    // `None` if it became due while under way: what it read may predate the reason. Then it runs again
                    // at once.
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

    /// Forgets tenants that have no sessions here.
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
    /// Logs a failure once. If the store is away, that concerns all tenants alike.
    fn note(&mut self, all: &mut usize, tenant: &TenantSlug, subject: Subject, answer: Result<(), StoreError>) {
        let result = if answer.is_ok() { "ok" } else { "failed" };
        crate::metrics::CHECKS.add([subject.name(), result], 1);
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
    /// Finds channels of which the store has more than came here, and channels that the store has renumbered.
    async fn check_positions(self: &Arc<Self>, tenant: &TenantSlug, channels: &Channels) -> Result<(), StoreError> {
        let key = |channel| ChannelKey { tenant: tenant.clone(), channel };
        for batch in channels.chunks(BATCH) {
            let permit = self.checks.acquire().await.expect("the semaphore is never closed");
            // Read the feeds before the store: everything they have seen by now, the store's answer includes.
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
                self.lose(lost, "the store has started a new numbering");
            }
        }
        Ok(())
    }

    /// Looks at once for sessions of former members in the channels of a tenant.
    pub async fn look_for_former_members(&self, tenant: &TenantSlug) -> Result<(), StoreError> {
        let channels = self.hub.channels().remove(tenant).unwrap_or_default();
        self.check_members(tenant, &channels).await
    }

    /// Cuts a member's sessions off from a channel if the store says so as well: what is on the bus is a hint, and may be
    /// older than the member's return. If the store does not answer, the regular check finds out.
    pub(super) async fn revoke_if_gone(self: Arc<Self>, channel: ChannelKey, user: UserId) {
        let asked = [(channel.channel, user)];
        let permit = self.checks.acquire().await.expect("the semaphore is never closed");
        let found = self.store.members_among(&channel.tenant, &asked).await;
        drop(permit);
        if found.is_ok_and(|members| members.is_empty()) {
            self.hub.revoke(&channel, &asked[0].1);
        }
    }

    /// Revokes sessions of users who are no longer members of their channel.
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
