-- From a run under way, or one that is deleted, to its execution.
create index schedule_executions_by_run on schedule_executions (run_id);
create index schedule_executions_by_thread on schedule_executions (thread_id);
