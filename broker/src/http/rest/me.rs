//! `/api/me/`: the member that the token names.

use axum::Json;
use serde::Serialize;

use super::extract::Bearer;
use crate::model::{TenantSlug, User};

#[derive(Serialize)]
pub(super) struct Me {
    #[serde(flatten)]
    user: User,
    tenant: TenantSlug,
}

pub(super) async fn show(Bearer(principal): Bearer) -> Json<Me> {
    Json(Me { user: principal.user, tenant: principal.tenant })
}
