-- The title that was made last. While it is the title, nobody has chosen another, and it may be made anew.
alter table threads add column made_title text;
