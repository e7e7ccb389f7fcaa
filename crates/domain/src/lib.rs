//! The words of Atelier and their rules: ids, the states of a run, usage and prices, validated names and paths.
//!
//! Nothing here does IO and nothing is async, so every rule can be tested as a table of cases. Whatever more than one
//! crate must agree on lives here; whatever only one crate needs does not.

pub mod address;
pub mod agent;
pub mod attachment;
pub mod audit;
pub mod budget;
pub mod build;
pub mod change;
pub mod environment;
pub mod event;
pub mod feedback;
pub mod id;
pub mod key;
pub mod limits;
pub mod mcp;
pub mod message;
pub mod money;
pub mod path;
pub mod permission;
pub mod preview;
pub mod project;
pub mod repository;
pub mod research;
pub mod run;
pub mod run_label;
pub mod schedule;
pub mod schema;
pub mod scope;
pub mod signature;
pub mod skill;
pub mod subagent;
pub mod thread;
pub mod tier;
pub mod title;
pub mod trigger;
pub mod user;
pub mod webhook;
pub mod word;

pub use id::{
    AgentId, AgentVersionId, ApiKeyId, BuildId, ChangeId, DeliveryId, EnvironmentId, ExecutionId, InvalidId, MessageId,
    OrganizationId, PermissionRequestId, PreviewId, ProjectId, QuestionId, ReportId, ResearchId, RunId, ScheduleId,
    SkillId, SnapshotId, SteeringId, StepId, ThreadId, TriggerId, WebhookId,
};
pub use money::MicroUsd;
pub use path::{InvalidPath, WorkspacePath};
