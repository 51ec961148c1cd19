//! Who changed what, and how far the nodes are.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Extract;
use axum::http::Uri;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::error::ApiError;
use super::super::paging::{Page, limit, link};
use super::super::state::State;
use super::answers::tenant;
use super::request::Parameters;

/// A line of the audit.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuditAnswer {
    /// Its number.
    id: u64,
    /// When.
    at: String,
    /// Who: what the tool said, or `broker`.
    actor: String,
    /// What was asked for.
    action: String,
    /// For which tenant; none: for all.
    tenant: Option<String>,
    /// About what.
    subject: String,
    /// What was in force.
    from: String,
    /// What was to be.
    to: String,
    /// `ok`, or why it was not done.
    result: String,
}

/// Which lines.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditQuery {
    /// Those before a line of this number.
    before: Option<u64>,
    /// How many, 1 to 100; 50 when it is not said.
    limit: Option<u32>,
}

/// A node that lives.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NodeAnswer {
    /// Its name.
    node: String,
    /// The revision that it runs.
    revision: u64,
    /// What it could not do of it.
    error: Option<String>,
    /// When it said so.
    at: String,
}

/// The nodes that live, and the revision that they should run.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NodesAnswer {
    /// Of the catalogue.
    revision: u64,
    /// By name.
    results: Vec<NodeAnswer>,
}

/// Who changed what, latest first.
#[utoipa::path(get, path = "/api/audit/", tag = "audit", params(AuditQuery),
    responses((status = 200, body = Page<AuditAnswer>)))]
pub(super) async fn audit(
    Extract(state): Extract<Arc<State>>,
    Parameters(query): Parameters<AuditQuery>,
    uri: Uri,
) -> Result<Json<Page<AuditAnswer>>, ApiError> {
    let limit = limit(query.limit)?;
    // One more than asked for tells whether there is a next page.
    let mut lines = state.control.audit(query.before, limit + 1).await?;
    let more = lines.len() > limit as usize;
    lines.truncate(limit as usize);
    let next = lines.last().filter(|_| more).map(|last| link(&uri, limit, "before", &last.id.to_string()));
    let previous = query.before.map(|_| format!("{}?limit={limit}", uri.path()));
    let results = lines.into_iter().map(|line| AuditAnswer {
        id: line.id,
        at: line.at.to_string(),
        actor: line.actor,
        action: line.action,
        tenant: tenant(&line.scope),
        subject: line.subject,
        from: line.from,
        to: line.to,
        result: line.result,
    });
    Ok(Json(Page { next, previous, results: results.collect() }))
}

/// How far the nodes are.
#[utoipa::path(get, path = "/api/nodes/", tag = "audit", responses((status = 200, body = NodesAnswer)))]
pub(super) async fn nodes(Extract(state): Extract<Arc<State>>) -> Result<Json<NodesAnswer>, ApiError> {
    let revision = state.services.store.catalogue_revision().await?;
    let nodes = state.control.nodes().await?;
    let results = nodes.into_iter().map(|node| NodeAnswer {
        node: node.node,
        revision: node.revision,
        error: node.error,
        at: node.at.to_string(),
    });
    Ok(Json(NodesAnswer { revision, results: results.collect() }))
}
