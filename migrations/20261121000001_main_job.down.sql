DROP TABLE boss_term, settings, events, disk_writes, captures, swap_points, jobs, agent_boots, segments, virtual_nodes,
    disks, nodes, experiments, image_versions, images, signing_keys, project_members, projects, sessions, users;
