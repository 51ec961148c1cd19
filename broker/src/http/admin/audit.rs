//! The routes for the audit and for the nodes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Extract;
use axum::http::Uri;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::error::ApiError;
use super::super::paging::{Page, link};
use super::super::query::Limit;
use super::super::state::State;
use super::answers::tenant;
use super::request::Parameters;

/// A line of the audit.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuditAnswer {
    /// Number of the line.
    id: u64,
    /// Time of the request.
    at: String,
    /// Who requested it, as named by the client, or `broker`.
    actor: String,
    /// The action that was requested.
    action: String,
    /// The tenant that it applies to; null for all tenants.
    tenant: Option<String>,
    /// What the action changes, such as a plugin.
    subject: String,
    /// State before the change.
    from: String,
    /// The requested state.
    to: String,
    /// `ok`, or the reason why nothing changed.
    result: String,
}

/// The lines to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditQuery {
    /// Lists only lines before the line with this number.
    before: Option<u64>,
    /// The number of lines, 1 to 100; the default is 50. A number outside counts as the nearest that is allowed.
    #[serde(default)]
    #[param(value_type = Option<u32>)]
    limit: Limit,
}

/// A live node.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NodeAnswer {
    /// Name of the node.
    node: String,
    /// Revision of the catalogue that it runs.
    revision: u64,
    /// Why it could not fully apply the revision.
    error: Option<String>,
    /// Time of this report.
    at: String,
}

/// The live nodes, and the revision that they should run.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NodesAnswer {
    /// Latest revision of the catalogue.
    revision: u64,
    /// The nodes, by name.
    results: Vec<NodeAnswer>,
}

/// Lists who requested what, with the result, latest first.
#[utoipa::path(get, path = "/api/audit/", tag = "audit", params(AuditQuery),
    responses((status = 200, body = Page<AuditAnswer>)))]
pub(super) async fn audit(
    Extract(state): Extract<Arc<State>>,
    Parameters(query): Parameters<AuditQuery>,
    uri: Uri,
) -> Result<Json<Page<AuditAnswer>>, ApiError> {
    let Limit(limit) = query.limit;
    // Reads one more than requested, to know whether there is a next page.
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

/// Shows which revision each live node runs.
#[utoipa::path(get, path = "/api/nodes/", tag = "audit", responses((status = 200, body = NodesAnswer)))]
pub(super) async fn nodes(Extract(state): Extract<Arc<State>>) -> Result<Json<NodesAnswer>, ApiError> {
    let revision = state.store.catalogue_revision().await?;
    let nodes = state.control.nodes().await?;
    let results = nodes.into_iter().map(|node| NodeAnswer {
        node: node.node,
        revision: node.revision,
        error: node.error,
        at: node.at.to_string(),
    });
    Ok(Json(NodesAnswer { revision, results: results.collect() }))
}
