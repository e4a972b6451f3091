-- How often a machine moved from one state to another. The sum over all only rises, so a database whose sum is below what
-- the store noted is an older one that was put back. Epochs are not enough: they rise only when a machine changes hands.
ALTER TABLE nodes ADD COLUMN moves bigint NOT NULL DEFAULT 0 CHECK (moves >= 0);
UPDATE nodes SET moves = epoch;

-- A database was put back, and what no row refers to in the store was not noted as kept yet: a start that is cut off in
-- between must not forget it.
ALTER TABLE boss_term ADD COLUMN keep_unreferenced boolean NOT NULL DEFAULT false;
