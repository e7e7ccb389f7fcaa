//! What model calls cost: written down in the statement that tells what came of the call, read by budgets and by reports.
//!
//! A charge outlives its thread, and what a day of somebody cost is added up as it is written (`spending`): a budget is looked
//! at before each model call, and must not take longer the more was done.

/// Adds the rows of the common table expression `charge` to what the day has cost. Rows are locked in one order by all
/// statements, and last: after the run and its thread.
pub(crate) const SPENDING: &str = "spending as (
         insert into spending (project_id, subject, subject_id, day, cost_micro_usd)
         select c.project_id, s.subject, s.id, (now() at time zone 'utc')::date, c.cost_micro_usd
         from charge c, lateral (values ('agent', c.agent_id), ('key', c.key_id), ('project', '')) as s(subject, id)
         where s.id is not null
         order by s.subject, s.id
         on conflict (project_id, subject, subject_id, day) do update
         set cost_micro_usd = spending.cost_micro_usd + excluded.cost_micro_usd
     )";
