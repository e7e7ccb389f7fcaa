-- A project may be of a tier: what the settings let those have at once, and how often they may ask. The name is the settings'
-- to know; one that they do not have (any more) is as good as none.
alter table projects add column tier text;
