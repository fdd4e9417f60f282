//! Members of the tenant.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::App;
use super::extract::{Body, Ids, Params, text};
use super::page::{List, Page};
use crate::caller::{Allowed, Manages, Oversees};
use crate::cursor::Position;
use crate::problem::{Problem, Refusals};

/// A member.
#[derive(Debug, Serialize, ToSchema)]
pub struct Member {
    /// The membership's id.
    pub id: Uuid,
    /// The address.
    pub email: String,
    /// The name.
    pub display_name: String,
    /// The application role.
    pub role: String,
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// An application role that a person may have.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PersonRole {
    /// Reads its own actions.
    Member,
    /// Reads all.
    Auditor,
    /// Manages.
    Admin,
    /// Owns.
    Owner,
}

impl PersonRole {
    fn word(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Auditor => "auditor",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }
}

/// A new member.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewMember {
    /// The address.
    #[schema(format = "email", max_length = 320)]
    pub email: String,
    /// The name.
    #[schema(max_length = 200)]
    pub display_name: String,
    /// The application role.
    pub role: PersonRole,
}

/// What to change about a member.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberChange {
    /// The name.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub display_name: Option<String>,
    /// The application role.
    #[serde(default)]
    pub role: Option<PersonRole>,
}

/// Adds a member.
#[utoipa::path(post, path = "/v1/members", operation_id = "create_member", security(("bearer" = [])), request_body = NewMember,
    responses((status = 201, description = "Added", body = Member),
        Refusals))]
pub async fn create_member(
    Allowed(caller, _): Allowed<Manages>,
    Body(new): Body<NewMember>,
) -> Result<(StatusCode, Json<Member>), Problem> {
    text("email", &new.email, 320)?;
    text("display_name", &new.display_name, 200)?;
    if !new.email.contains('@') {
        return Err(Problem::Unprocessable("email must be an address".into()));
    }
    let made = caller.run(move |store| {
        Box::pin(async move { store.add_member(&new.email, &new.display_name, new.role.word()).await })
    });
    Ok((StatusCode::CREATED, Json(made.await?)))
}

/// Lists members.
#[utoipa::path(get, path = "/v1/members", operation_id = "list_members", security(("bearer" = [])), params(Page),
    responses((status = 200, description = "A page", body = List<Member>),
        Refusals))]
pub async fn list_members(
    State(app): State<App>,
    Allowed(caller, _): Allowed<Oversees>,
    Params(page): Params<Page>,
) -> Result<Json<List<Member>>, Problem> {
    let position = |member: &Member| Position::of_id(member.id);
    page.answer(&app, &caller, "members".into(), position, |store, asked| {
        Box::pin(async move {
            let items = store.members(asked.after_id(), asked.limit).await?;
            Ok((items, if asked.count { Some(store.count_in_directory("memberships").await?) } else { None }))
        })
    })
    .await
}

/// Reads a member.
#[utoipa::path(get, path = "/v1/members/{id}", operation_id = "get_member", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The membership")),
    responses((status = 200, description = "The member", body = Member),
        Refusals))]
pub async fn get_member(Allowed(caller, _): Allowed<Oversees>, Ids([id]): Ids<1>) -> Result<Json<Member>, Problem> {
    caller.run(move |store| Box::pin(store.member(id))).await.map(Json)
}

/// Changes a member's name or application role.
#[utoipa::path(patch, path = "/v1/members/{id}", operation_id = "update_member", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The membership")), request_body = MemberChange,
    responses((status = 200, description = "Changed", body = Member),
        Refusals))]
pub async fn update_member(
    Allowed(caller, _): Allowed<Manages>,
    Ids([id]): Ids<1>,
    Body(change): Body<MemberChange>,
) -> Result<Json<Member>, Problem> {
    text("display_name", change.display_name.as_deref().unwrap_or_default(), 200)?;
    let role = change.role.map(PersonRole::word);
    let changed = caller
        .run(move |store| Box::pin(async move { store.change_member(id, role, change.display_name.as_deref()).await }));
    changed.await.map(Json)
}

/// Ends a membership.
#[utoipa::path(delete, path = "/v1/members/{id}", operation_id = "delete_member", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The membership")),
    responses((status = 204, description = "Ended"),
        Refusals))]
pub async fn delete_member(Allowed(caller, _): Allowed<Manages>, Ids([id]): Ids<1>) -> Result<StatusCode, Problem> {
    caller.run(move |store| Box::pin(store.remove_member(id))).await?;
    Ok(StatusCode::NO_CONTENT)
}
