ALTER TABLE boss_term DROP COLUMN keep_unreferenced;
ALTER TABLE nodes DROP COLUMN moves;
