//! The routes for grants, limits, failure policies, and consent to recording.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Extract};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::error::ApiError;
use super::super::paging::Page;
use super::super::state::State;
use super::answers::{OutcomeAnswer, tenant};
use super::request::{Actor, Fields, Known, Named};
use super::routes::run;
use crate::deploy::{Command, Edit, View};
use crate::model::catalogue::{FailurePolicy, Import, Scope};
use crate::model::{Kind, TenantSlug};
use crate::plugin::Limits;
use crate::protocol::{ErrorCode, Refusal};

/// The interfaces that a plugin may use.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GrantsAnswer {
    /// The tenant that this applies to; null for all tenants without a decision of their own.
    tenant: Option<String>,
    /// Names of the interfaces.
    grants: Vec<String>,
}

/// A change of grants: exactly one of `add`, `remove`, `set` and `clear`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GrantsBody {
    /// The tenant; if it is missing or null, all tenants.
    #[schema(value_type = Option<String>)]
    tenant: Option<TenantSlug>,
    /// Interfaces to add.
    #[serde(default)]
    add: Vec<String>,
    /// Interfaces to remove.
    #[serde(default)]
    remove: Vec<String>,
    /// The only interfaces to grant.
    set: Option<Vec<String>>,
    /// Whether to clear the decision.
    #[serde(default)]
    clear: bool,
}

/// A limit that can be set.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LimitAnswer {
    /// Name of the limit.
    name: &'static str,
    /// The value that applies unless another one is set.
    default: u64,
    /// The smallest value that can be set.
    least: u64,
    /// The largest value that can be set.
    most: u64,
    /// What it limits.
    about: &'static str,
}

/// The limits that are set for a plugin.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SetLimits {
    /// The tenant that this applies to; null for all tenants.
    tenant: Option<String>,
    /// Values by name of the limit.
    limits: BTreeMap<String, u64>,
}

/// The limits of a plugin.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LimitsAnswer {
    /// The limits that can be set.
    limits: Vec<LimitAnswer>,
    /// The limits that are set.
    results: Vec<SetLimits>,
}

/// A change of limits.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsBody {
    /// The tenant; if it is missing or null, all tenants.
    #[schema(value_type = Option<String>)]
    tenant: Option<TenantSlug>,
    /// Values by name of the limit; null resets a limit.
    values: BTreeMap<String, Option<u64>>,
}

/// A failure policy: what happens when the handler of a type fails.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PolicyAnswer {
    /// The tenant that this applies to; null for all tenants.
    tenant: Option<String>,
    /// The message type.
    kind: String,
    /// `open` or `closed`.
    #[schema(value_type = String)]
    policy: FailurePolicy,
}

/// A change of a failure policy.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyBody {
    /// The tenant; if it is missing or null, all tenants.
    #[schema(value_type = Option<String>)]
    tenant: Option<TenantSlug>,
    /// `open`, `closed`, or `default`, which clears the decision.
    policy: String,
}

/// A tenant's consent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ConsentBody {
    /// Whether the tenant's events may be recorded.
    recording: bool,
}

type Answer = Result<Json<OutcomeAnswer>, ApiError>;

/// Shows a plugin's grants, for all tenants and for tenants with a decision of their own.
#[utoipa::path(get, path = "/api/plugins/{name}/grants/", tag = "terms", params(("name" = String, Path)),
    responses((status = 200, body = Page<GrantsAnswer>)))]
pub(super) async fn grants(
    Extract(state): Extract<Arc<State>>,
    Known(name): Known,
) -> Result<Json<Page<GrantsAnswer>>, ApiError> {
    let catalogue = state.control.catalogue().await?;
    let view = View { catalogue: &catalogue, built_in: state.control.built_in() };
    let decided = catalogue.plugin_policies.iter().filter(|policy| policy.plugin == name && policy.grants.is_some());
    let scopes: BTreeSet<Scope> = decided.map(|policy| policy.scope.clone()).chain([Scope::All]).collect();
    let row = |scope: &Scope| GrantsAnswer {
        tenant: tenant(scope),
        grants: view.grants(scope, &name).iter().map(ToString::to_string).collect(),
    };
    Ok(Json(Page::whole(scopes.iter().map(row).collect())))
}

/// Changes a plugin's grants.
#[utoipa::path(put, path = "/api/plugins/{name}/grants/", tag = "terms", params(("name" = String, Path)),
    request_body = GrantsBody, responses((status = 200, body = OutcomeAnswer),
        (status = 422, description = "the change is not possible; the message says why")))]
pub(super) async fn grant(
    Extract(state): Extract<Arc<State>>,
    Actor(actor): Actor,
    Named(name): Named,
    Fields(body): Fields<GrantsBody>,
) -> Answer {
    let edit = match (body.add.as_slice(), body.remove.as_slice(), body.set, body.clear) {
        (add, [], None, false) if !add.is_empty() => Edit::Add(imports(add)?),
        ([], remove, None, false) if !remove.is_empty() => Edit::Remove(imports(remove)?),
        ([], [], Some(set), false) => Edit::Set(imports(&set)?),
        ([], [], None, true) => Edit::Clear,
        _ => return Err(ApiError::bad(None, "give exactly one of `add`, `remove`, `set` and `clear`")),
    };
    run(&state, &actor, Command::Grants(name, body.tenant.into(), edit)).await
}

/// Shows the limits that can be set, and those that are set for a plugin.
#[utoipa::path(get, path = "/api/plugins/{name}/limits/", tag = "terms", params(("name" = String, Path)),
    responses((status = 200, body = LimitsAnswer)))]
pub(super) async fn limits(
    Extract(state): Extract<Arc<State>>,
    Known(name): Known,
) -> Result<Json<LimitsAnswer>, ApiError> {
    let catalogue = state.control.catalogue().await?;
    let set = catalogue.plugin_policies.iter().filter(|policy| policy.plugin == name && !policy.limits.is_empty());
    let results =
        set.map(|policy| SetLimits { tenant: tenant(&policy.scope), limits: policy.limits.clone() }).collect();
    let limits = Limits::NAMED.iter().map(|spec| LimitAnswer {
        name: spec.name,
        default: spec.default,
        least: spec.least,
        most: spec.most,
        about: spec.about,
    });
    Ok(Json(LimitsAnswer { limits: limits.collect(), results }))
}

/// Changes a plugin's limits. You can set them before you deploy the plugin.
#[utoipa::path(put, path = "/api/plugins/{name}/limits/", tag = "terms", params(("name" = String, Path)),
    request_body = LimitsBody, responses((status = 200, body = OutcomeAnswer),
        (status = 422, description = "the change is not possible; the message says why")))]
pub(super) async fn limit(
    Extract(state): Extract<Arc<State>>,
    Actor(actor): Actor,
    Named(name): Named,
    Fields(body): Fields<LimitsBody>,
) -> Answer {
    run(&state, &actor, Command::Limits(name, body.tenant.into(), body.values)).await
}

/// Lists the failure policies that operators have set.
#[utoipa::path(get, path = "/api/policies/", tag = "terms", responses((status = 200, body = Page<PolicyAnswer>)))]
pub(super) async fn policies(Extract(state): Extract<Arc<State>>) -> Result<Json<Page<PolicyAnswer>>, ApiError> {
    let catalogue = state.control.catalogue().await?;
    let rows = catalogue.kind_policies.iter().filter_map(|row| {
        let policy = row.policy?;
        Some(PolicyAnswer { tenant: tenant(&row.scope), kind: row.kind.to_string(), policy })
    });
    Ok(Json(Page::whole(rows.collect())))
}

/// Sets what happens when the handler of a type fails.
#[utoipa::path(put, path = "/api/policies/{kind}/", tag = "terms", params(("kind" = String, Path)),
    request_body = PolicyBody, responses((status = 200, body = OutcomeAnswer)))]
pub(super) async fn policy(
    Extract(state): Extract<Arc<State>>,
    Actor(actor): Actor,
    Path(kind): Path<String>,
    Fields(body): Fields<PolicyBody>,
) -> Answer {
    let kind: Kind = kind.parse().map_err(|_| ApiError::bad(Some("kind"), "this is not a message type"))?;
    let policy = match body.policy.as_str() {
        "open" => Some(FailurePolicy::Open),
        "closed" => Some(FailurePolicy::Closed),
        "default" => None,
        _ => return Err(ApiError::bad(Some("policy"), "a policy must be `open`, `closed` or `default`")),
    };
    run(&state, &actor, Command::Policy(kind, body.tenant.into(), policy)).await
}

/// Lists the tenants that consent to the recording of their events.
#[utoipa::path(get, path = "/api/consents/", tag = "terms", responses((status = 200, body = Page<String>)))]
pub(super) async fn consents(Extract(state): Extract<Arc<State>>) -> Result<Json<Page<String>>, ApiError> {
    let catalogue = state.control.catalogue().await?;
    Ok(Json(Page::whole(catalogue.consents.iter().map(ToString::to_string).collect())))
}

/// Gives or withdraws a tenant's consent to the recording of its events.
#[utoipa::path(put, path = "/api/consents/{tenant}/", tag = "terms", params(("tenant" = String, Path)),
    request_body = ConsentBody, responses((status = 200, body = OutcomeAnswer)))]
pub(super) async fn consent(
    Extract(state): Extract<Arc<State>>,
    Actor(actor): Actor,
    Path(tenant): Path<String>,
    Fields(body): Fields<ConsentBody>,
) -> Answer {
    let tenant: TenantSlug =
        tenant.parse().map_err(|_| ApiError::bad(Some("tenant"), "this is not a tenant's slug"))?;
    run(&state, &actor, Command::Consent(tenant, body.recording)).await
}

fn imports(names: &[String]) -> Result<BTreeSet<Import>, ApiError> {
    let import = |name: &String| {
        Import::from_name(name).ok_or_else(|| {
            let known = Import::ALL.map(Import::as_str).join(", ");
            let said: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
            ApiError::from(Refusal::new(
                ErrorCode::BadRequest,
                format!("there is no interface `{said}`; the interfaces are {known}"),
            ))
        })
    };
    names.iter().map(import).collect()
}
