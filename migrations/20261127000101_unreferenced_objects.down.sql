DROP INDEX image_versions_zdi, image_versions_sig, captures_zdi, captures_sig;
DROP TABLE unreferenced_objects;
