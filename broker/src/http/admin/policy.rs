//! What plugins may do and use, what follows from their failing, and whom may be recorded.

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

/// What is granted to a plugin.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GrantsAnswer {
    /// For which tenant; none: for all that have decided nothing.
    tenant: Option<String>,
    /// The interfaces.
    grants: Vec<String>,
}

/// One of these.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GrantsBody {
    /// The tenant; none: for all.
    #[schema(value_type = Option<String>)]
    tenant: Option<TenantSlug>,
    /// Interfaces to grant as well.
    #[serde(default)]
    add: Vec<String>,
    /// Interfaces to grant no more.
    #[serde(default)]
    remove: Vec<String>,
    /// The interfaces to grant, and no others.
    set: Option<Vec<String>>,
    /// Whether to take the decision back.
    #[serde(default)]
    clear: bool,
}

/// A limit that can be set.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LimitAnswer {
    /// Its name.
    name: &'static str,
    /// What holds when nothing is decided.
    default: u64,
    /// The least that can be set.
    least: u64,
    /// The most that can be set.
    most: u64,
    /// What it limits.
    about: &'static str,
}

/// What is set for a plugin.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SetLimits {
    /// For which tenant; none: for all.
    tenant: Option<String>,
    /// Limits by name.
    limits: BTreeMap<String, u64>,
}

/// The limits of a plugin.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LimitsAnswer {
    /// Those that can be set.
    limits: Vec<LimitAnswer>,
    /// Those that are.
    results: Vec<SetLimits>,
}

/// What to set.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsBody {
    /// The tenant; none: for all.
    #[schema(value_type = Option<String>)]
    tenant: Option<TenantSlug>,
    /// By name; null takes a former decision back.
    values: BTreeMap<String, Option<u64>>,
}

/// What follows from a failing handler.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PolicyAnswer {
    /// For which tenant; none: for all.
    tenant: Option<String>,
    /// The type.
    kind: String,
    /// `open` or `closed`.
    #[schema(value_type = String)]
    policy: FailurePolicy,
}

/// What to decide.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyBody {
    /// The tenant; none: for all.
    #[schema(value_type = Option<String>)]
    tenant: Option<TenantSlug>,
    /// `open`, `closed`, or `default`, which takes a former decision back.
    policy: String,
}

/// What to decide.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ConsentBody {
    /// Whether the tenant's events may be recorded.
    recording: bool,
}

type Answer = Result<Json<OutcomeAnswer>, ApiError>;

/// What a plugin is granted, for all and for tenants that have decided.
#[utoipa::path(get, path = "/api/plugins/{name}/grants/", tag = "terms", params(("name" = String, Path)),
    responses((status = 200, body = Page<GrantsAnswer>)))]
pub(super) async fn grants(
    Extract(state): Extract<Arc<State>>,
    Known(name): Known,
) -> Result<Json<Page<GrantsAnswer>>, ApiError> {
    let catalogue = state.control.catalogue().await?;
    let view = View { catalogue: &catalogue, built_in: state.control.built_in() };
    let decided = catalogue.terms.iter().filter(|terms| terms.plugin == name && terms.grants.is_some());
    let scopes: BTreeSet<Scope> = decided.map(|terms| terms.scope.clone()).chain([Scope::All]).collect();
    let row = |scope: &Scope| GrantsAnswer {
        tenant: tenant(scope),
        grants: view.grants(scope, &name).iter().map(ToString::to_string).collect(),
    };
    Ok(Json(Page::whole(scopes.iter().map(row).collect())))
}

/// Changes what a plugin is granted.
#[utoipa::path(put, path = "/api/plugins/{name}/grants/", tag = "terms", params(("name" = String, Path)),
    request_body = GrantsBody, responses((status = 200, body = OutcomeAnswer), (status = 422, description = "why not")))]
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
        _ => return Err(ApiError::bad(None, "give one of `add`, `remove`, `set` and `clear`")),
    };
    run(&state, &actor, Command::Grants(name, body.tenant.into(), edit)).await
}

/// Which limits there are, and which are set for a plugin.
#[utoipa::path(get, path = "/api/plugins/{name}/limits/", tag = "terms", params(("name" = String, Path)),
    responses((status = 200, body = LimitsAnswer)))]
pub(super) async fn limits(
    Extract(state): Extract<Arc<State>>,
    Known(name): Known,
) -> Result<Json<LimitsAnswer>, ApiError> {
    let catalogue = state.control.catalogue().await?;
    let set = catalogue.terms.iter().filter(|terms| terms.plugin == name && !terms.limits.is_empty());
    let results = set.map(|terms| SetLimits { tenant: tenant(&terms.scope), limits: terms.limits.clone() }).collect();
    let limits = Limits::NAMED.iter().map(|spec| LimitAnswer {
        name: spec.name,
        default: spec.default,
        least: spec.least,
        most: spec.most,
        about: spec.about,
    });
    Ok(Json(LimitsAnswer { limits: limits.collect(), results }))
}

/// Changes a plugin's limits. They may be set before the plugin is deployed.
#[utoipa::path(put, path = "/api/plugins/{name}/limits/", tag = "terms", params(("name" = String, Path)),
    request_body = LimitsBody, responses((status = 200, body = OutcomeAnswer), (status = 422, description = "why not")))]
pub(super) async fn limit(
    Extract(state): Extract<Arc<State>>,
    Actor(actor): Actor,
    Named(name): Named,
    Fields(body): Fields<LimitsBody>,
) -> Answer {
    run(&state, &actor, Command::Limits(name, body.tenant.into(), body.values)).await
}

/// What is decided about failing handlers.
#[utoipa::path(get, path = "/api/policies/", tag = "terms", responses((status = 200, body = Page<PolicyAnswer>)))]
pub(super) async fn policies(Extract(state): Extract<Arc<State>>) -> Result<Json<Page<PolicyAnswer>>, ApiError> {
    let catalogue = state.control.catalogue().await?;
    let rows = catalogue.policies.iter().filter_map(|row| {
        let policy = row.policy?;
        Some(PolicyAnswer { tenant: tenant(&row.scope), kind: row.kind.to_string(), policy })
    });
    Ok(Json(Page::whole(rows.collect())))
}

/// Decides what follows when the handler of a type fails.
#[utoipa::path(put, path = "/api/policies/{kind}/", tag = "terms", params(("kind" = String, Path)),
    request_body = PolicyBody, responses((status = 200, body = OutcomeAnswer)))]
pub(super) async fn policy(
    Extract(state): Extract<Arc<State>>,
    Actor(actor): Actor,
    Path(kind): Path<String>,
    Fields(body): Fields<PolicyBody>,
) -> Answer {
    let kind: Kind = kind.parse().map_err(|_| ApiError::bad(Some("kind"), "this is no type of messages"))?;
    let policy = match body.policy.as_str() {
        "open" => Some(FailurePolicy::Open),
        "closed" => Some(FailurePolicy::Closed),
        "default" => None,
        _ => return Err(ApiError::bad(Some("policy"), "a policy is `open`, `closed` or `default`")),
    };
    run(&state, &actor, Command::Policy(kind, body.tenant.into(), policy)).await
}

/// The tenants whose events may be recorded.
#[utoipa::path(get, path = "/api/consents/", tag = "terms", responses((status = 200, body = Page<String>)))]
pub(super) async fn consents(Extract(state): Extract<Arc<State>>) -> Result<Json<Page<String>>, ApiError> {
    let catalogue = state.control.catalogue().await?;
    Ok(Json(Page::whole(catalogue.consents.iter().map(ToString::to_string).collect())))
}

/// Gives or withdraws a tenant's consent to recording.
#[utoipa::path(put, path = "/api/consents/{tenant}/", tag = "terms", params(("tenant" = String, Path)),
    request_body = ConsentBody, responses((status = 200, body = OutcomeAnswer)))]
pub(super) async fn consent(
    Extract(state): Extract<Arc<State>>,
    Actor(actor): Actor,
    Path(tenant): Path<String>,
    Fields(body): Fields<ConsentBody>,
) -> Answer {
    let tenant: TenantSlug = tenant.parse().map_err(|_| ApiError::bad(Some("tenant"), "this is no tenant's name"))?;
    run(&state, &actor, Command::Consent(tenant, body.recording)).await
}

fn imports(names: &[String]) -> Result<BTreeSet<Import>, ApiError> {
    let import = |name: &String| {
        Import::from_name(name).ok_or_else(|| {
            let known = Import::ALL.map(Import::as_str).join(", ");
            let said: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
            ApiError::from(Refusal::new(
                ErrorCode::BadRequest,
                format!("there is no interface `{said}`; there is {known}"),
            ))
        })
    };
    names.iter().map(import).collect()
}
