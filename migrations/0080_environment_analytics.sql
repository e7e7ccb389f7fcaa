-- What was done in an environment is found by its threads.
create index threads_by_environment on threads (environment_id);
