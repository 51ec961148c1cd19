//! The durable state: tenants, members, channels, messages and read marks.
//!
//! [`Store`] has two adapters, [`postgres`] (one schema per tenant) and [`sqlite`] (one file per tenant), which pass the
//! same conformance suite. All SQL is in these adapters. The store knows nothing of frames, sockets or handlers, and it
//! makes no decisions about permissions: each call names a tenant and concerns only that tenant.

use std::time::Duration;

use async_trait::async_trait;

pub mod postgres;
pub mod sqlite;

mod answer;
mod catalogue;
mod changes;
mod channels;
mod commit;
mod entries;
mod error;
mod keys;
mod members;
mod messages;
mod tenants;

pub use catalogue::CatalogueStore;
pub use channels::{ChannelStore, ChannelSummary, NewChannel};
pub use commit::{AppliedRead, Commit, CommitStore, Committed, Outcome, Receipt};
pub use error::StoreError;
pub use keys::KeyStore;
pub use members::{Bearer, Credentials, KnownBearer, MemberStore, RefreshUse, Renamed, Successor};
pub use messages::{MessageStore, Span};
pub use tenants::TenantStore;

/// How long a revoked family of refresh tokens is kept after the expiry of the token that revealed the theft. Tokens of the
/// family that were issued later expire later, but no token lives longer than this.
const REVOCATION_KEPT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// How long a refresh token that is used again gets the same successor: for an answer that was lost, a page that was reloaded,
/// and two tabs.
pub const REFRESH_GRACE: Duration = Duration::from_secs(30);

/// Minimum time for which a node status is kept.
const REPORTS_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// The durable state, one trait per aggregate. Every call except the catalogue's names its tenant and touches nothing
/// else; for a tenant that is not in the catalogue, it fails with [`StoreError::NoTenant`]. A call answers or fails within
/// the adapter's time limit; it never hangs.
#[async_trait]
pub trait Store:
    TenantStore + MemberStore + ChannelStore + MessageStore + CommitStore + CatalogueStore + KeyStore
{
    /// Whether the database answers.
    async fn ping(&self) -> Result<(), StoreError>;
}
