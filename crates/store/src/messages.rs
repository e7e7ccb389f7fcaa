//! Messages of a thread, as people see them.

use domain::{
    RunId, ThreadId,
    message::{Message, Role},
};
use serde_json::{Map, Value};
use sqlx::{Row, postgres::PgRow};

use crate::{Page, Paged, Result, Store, row::ReadColumn};

/// A message to be added.
#[derive(Debug, Clone)]
pub struct NewMessage {
    pub role: Role,
    pub content: String,
    pub metadata: Option<Map<String, Value>>,
}

/// Which end of a list comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    OldestFirst,
    NewestFirst,
}

impl Store {
    /// Lists the messages of a thread, without those that it was rewound behind.
    pub async fn list_messages(&self, thread: &ThreadId, order: Order, page: Page) -> Result<Paged<Message>> {
        self.list_messages_of(thread, order, page, false).await
    }

    /// Lists all messages of a thread, also those that it was rewound behind.
    pub async fn list_all_messages(&self, thread: &ThreadId, order: Order, page: Page) -> Result<Paged<Message>> {
        self.list_messages_of(thread, order, page, true).await
    }

    async fn list_messages_of(
        &self,
        thread: &ThreadId,
        order: Order,
        page: Page,
        with_superseded: bool,
    ) -> Result<Paged<Message>> {
        let rows = sqlx::query(match order {
            Order::OldestFirst => {
                "-- list_messages
                 select m.id, m.thread_id, m.position, m.role, m.content, m.run_id, m.metadata, m.input_tokens,
                     m.output_tokens, m.duration_ms, m.actions_count, m.created_at, m.superseded_at,
                     r.options -> 'attachments' as attachments
                 from messages m left join runs r on r.id = m.run_id and exists (
                     -- The message that caused the run, or its copy in another thread.
                     select 1 from messages o where o.id = r.message_id and o.position = m.position
                 )
                 where m.thread_id = $1 and ($4 or m.superseded_at is null)
                 order by m.position
                 limit $2 offset $3"
            }
            Order::NewestFirst => {
                "-- list_messages: newest first
                 select m.id, m.thread_id, m.position, m.role, m.content, m.run_id, m.metadata, m.input_tokens,
                     m.output_tokens, m.duration_ms, m.actions_count, m.created_at, m.superseded_at,
                     r.options -> 'attachments' as attachments
                 from messages m left join runs r on r.id = m.run_id and exists (
                     -- The message that caused the run, or its copy in another thread.
                     select 1 from messages o where o.id = r.message_id and o.position = m.position
                 )
                 where m.thread_id = $1 and ($4 or m.superseded_at is null)
                 order by m.position desc
                 limit $2 offset $3"
            }
        })
        .bind(thread.as_str())
        .bind(page.limit)
        .bind(page.offset)
        .bind(with_superseded)
        .fetch_all(&self.pool)
        .await?;
        let total = sqlx::query_scalar(
            "-- list_messages: total
             select message_count + (case when $2 then superseded_count else 0 end) from threads where id = $1",
        )
        .bind(thread.as_str())
        .bind(with_superseded)
        .fetch_optional(&self.pool)
        .await?
        .unwrap_or(0);
        Ok(Paged { items: rows.iter().map(read).collect::<Result<_>>()?, total })
    }

    /// Lists the messages that caused a run, oldest first: usually one; more where a thread was created with several.
    pub async fn list_run_messages(&self, thread: &ThreadId, run: &RunId) -> Result<Vec<Message>> {
        let rows = sqlx::query(
            "-- list_run_messages
             select id, thread_id, position, role, content, run_id, metadata, input_tokens, output_tokens,
                 duration_ms, actions_count, created_at, superseded_at,
                 null::jsonb as attachments
             from messages
             where thread_id = $1 and run_id = $2 and position <= (
                 select position from messages m join runs r on r.message_id = m.id where r.id = $2
             )
             order by position",
        )
        .bind(thread.as_str())
        .bind(run.as_str())
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(read).collect()
    }
}

/// The beginning of a text, for lists.
pub(crate) fn preview(content: &str) -> String {
    content.chars().take(200).collect()
}

fn read(row: &PgRow) -> Result<Message> {
    Ok(Message {
        id: row.parse("id")?,
        thread_id: row.parse("thread_id")?,
        position: row.try_get("position")?,
        role: row.parse("role")?,
        content: row.try_get("content")?,
        run_id: row.parse_optional("run_id")?,
        metadata: row.json_optional("metadata")?,
        input_tokens: row.try_get("input_tokens")?,
        output_tokens: row.try_get("output_tokens")?,
        duration_ms: row.try_get("duration_ms")?,
        actions_count: row.try_get("actions_count")?,
        created_at: row.try_get("created_at")?,
        attachments: row.json_optional("attachments")?.unwrap_or_default(),
        superseded_at: row.try_get("superseded_at")?,
    })
}
