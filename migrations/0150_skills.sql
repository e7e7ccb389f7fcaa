-- Skills of a project: instructions for a kind of work, with files. A skill is known to models by its slug, which is
-- therefore unique; its version is a hash of all that a model may read, and names the directory that containers see.
create table skills (
    id text primary key,
    project_id text not null references projects,
    slug text not null,
    name text not null,
    description text not null,
    -- The body of SKILL.md, without its frontmatter.
    markdown text not null,
    category text not null,
    icon text,
    is_active boolean not null,
    version text not null,
    -- Of the archive it was installed from, in hexadecimal.
    archive_sha256 text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint skills_slug_once unique (project_id, slug)
);

create table skill_files (
    skill_id text not null references skills on delete cascade,
    path text not null,
    content bytea not null,
    language text,
    is_executable boolean not null,
    primary key (skill_id, path)
);
