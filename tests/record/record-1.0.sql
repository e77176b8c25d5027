BEGIN TRANSACTION;
CREATE TABLE attempt (
    id INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL REFERENCES run (run_id),
    cell_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    seconds REAL NOT NULL,
    fault TEXT,                              -- what the machine did wrong
    at TEXT NOT NULL
);
INSERT INTO "attempt" VALUES(1,'20261121-1230-a1b2','import_smoke/2.1.2/guard-off/docker',1,0.055,NULL,'2026-11-25T20:24:04.615+00:00');
INSERT INTO "attempt" VALUES(2,'20261121-1230-a1b2','env_skew.init_barrier/2.6.0,2.6.0/guard-off/docker',1,10.4,NULL,'2026-11-25T20:24:04.616+00:00');
INSERT INTO "attempt" VALUES(3,'20261121-1230-a1b2','env_skew.init_barrier/2.13.0,2.13.0/guard-off/docker',1,10.4,NULL,'2026-11-25T20:24:04.616+00:00');
INSERT INTO "attempt" VALUES(4,'20261121-1230-a1b2','rendezvous_tcp/2.1.2,2.1.2/guard-off/docker',1,0.055,NULL,'2026-11-25T20:24:04.617+00:00');
CREATE TABLE cell (
    plan INTEGER NOT NULL REFERENCES plan (id),
    position INTEGER NOT NULL,
    cell_id TEXT NOT NULL,
    body TEXT NOT NULL,                      -- Cell as JSON
    PRIMARY KEY (plan, position)
) WITHOUT ROWID;
INSERT INTO "cell" VALUES(1,0,'import_smoke/2.1.2/guard-off/docker','{"id":"import_smoke/2.1.2/guard-off/docker","scenario":"import_smoke","skew":["2.1.2"],"runtime":"docker","kind":"solo","predicted":["OK"]}');
INSERT INTO "cell" VALUES(1,1,'env_skew.init_barrier/2.6.0,2.6.0/guard-off/docker','{"id":"env_skew.init_barrier/2.6.0,2.6.0/guard-off/docker","scenario":"env_skew","skew":["2.6.0","2.6.0"],"runtime":"docker","variant":{"name":"init_barrier","env":{"X":"1"}},"predicted":["OK","CRASH"]}');
INSERT INTO "cell" VALUES(1,2,'env_skew.init_barrier/2.13.0,2.13.0/guard-off/docker','{"id":"env_skew.init_barrier/2.13.0,2.13.0/guard-off/docker","scenario":"env_skew","skew":["2.13.0","2.13.0"],"runtime":"docker","variant":{"name":"init_barrier","env":{"X":"1"}},"predicted":["OK","CRASH"]}');
INSERT INTO "cell" VALUES(1,3,'rendezvous_tcp/2.1.2,2.1.2/guard-off/docker','{"id":"rendezvous_tcp/2.1.2,2.1.2/guard-off/docker","scenario":"rendezvous_tcp","skew":["2.1.2","2.1.2"],"runtime":"docker","predicted":["OK","OK"]}');
CREATE TABLE facts (
    attempt INTEGER NOT NULL REFERENCES attempt (id),
    rank INTEGER NOT NULL,
    body TEXT NOT NULL,                      -- RankFacts as JSON, without what stands in the next two
    printed BLOB,                            -- log and stacks: JSON, zlib; only read when asked for
    payload BLOB,                            -- what the scenario reported: JSON, zlib
    PRIMARY KEY (attempt, rank)
);
INSERT INTO "facts" VALUES(1,0,'{"rank":0,"declared":"2.1.2","torch":"2.1.2+cpu","git_version":"7bcf7da3a268b435777fe87c7794c382f444e86d","python":"3.11.7","host":"10.88.0.2","phase":"done","seconds":0.055,"phases":{"rendezvous":0.031,"run":0.012,"teardown":0.004},"exit":0,"finished":true}',NULL,X'789CAB560A0EF5D5CFCC2B3133D1CF4F4951B252504A344C3252AA0500624A0740');
INSERT INTO "facts" VALUES(2,0,'{"rank":0,"declared":"2.6.0","torch":"2.6.0+cpu","git_version":"7bcf7da3a268b435777fe87c7794c382f444e86d","python":"3.11.7","host":"10.88.0.2","phase":"done","seconds":0.055,"phases":{"rendezvous":0.031,"run":0.012,"teardown":0.004},"exit":0,"finished":true}',NULL,X'789CAB560A0EF5D5CFCC2B3133D1CF4F4951B252504A344C3252AA0500624A0740');
INSERT INTO "facts" VALUES(2,1,'{"rank":1,"declared":"2.6.0","torch":"2.6.0+cpu","git_version":"7bcf7da3a268b435777fe87c7794c382f444e86d","python":"3.11.7","host":"10.88.0.3","phase":"rendezvous","seconds":10.4,"phases":{"rendezvous":10.4},"signal":"SIGABRT"}',X'789CA5D3BD4E02510044E157B9D9C292DC9959FE36C6D7B05828705542905D82100AE3BBDBD898E99CF234A7FBBE9A8F69DF74A5E99F01A2809D6A57EBACAD6DF99C86E3DB75369CCF1D6BDD967E407DDD96FBEE703D8CFBF23E5DCAE6562B5E7AE974D98DC782DFAEA7F2F8F0B419FF5EE157E457FA95F9557E557E6DFDDAE6D7B95FE7F975E1D7457E5DFA75995F577E5DE5D7B55FD7F1156E0BB92DB82DE4B6E0B690DB82DB426E0B6E0BB92DB82DE4B6E0B690DB82DB426E0B6E0BB92DB82DE4B6E8B698DBA2DB626E8B6E8BB92DBA2DE6B6E8B698DBA2DB626E8B6E8BB92DBA2DE6B6E8B698DBA2DB626E4B6E4BB92DB92DE5B6E4B694DB92DB526E4B6E4BB92DB92DE5B6E4B694DB92DB526E4B6E4BB92DB92DFDCB56F3FD03C09AEE92',NULL);
INSERT INTO "facts" VALUES(3,0,'{"rank":0,"declared":"2.13.0","torch":"2.13.0+cpu","git_version":"7bcf7da3a268b435777fe87c7794c382f444e86d","python":"3.11.7","host":"10.88.0.2","phase":"done","seconds":0.055,"phases":{"rendezvous":0.031,"run":0.012,"teardown":0.004},"exit":0,"finished":true}',NULL,X'789CAB560A0EF5D5CFCC2B3133D1CF4F4951B252504A344C3252AA0500624A0740');
INSERT INTO "facts" VALUES(3,1,'{"rank":1,"declared":"2.13.0","torch":"2.13.0+cpu","git_version":"7bcf7da3a268b435777fe87c7794c382f444e86d","python":"3.11.7","host":"10.88.0.3","phase":"rendezvous","seconds":10.4,"phases":{"rendezvous":10.4},"signal":"SIGABRT"}',X'789CA5D3BD4E02510044E157B9D9C292DC9959FE36C6D7B05828705542905D82100AE3BBDBD898E99CF234A7FBBE9A8F69DF74A5E99F01A2809D6A57EBACAD6DF99C86E3DB75369CCF1D6BDD967E407DDD96FBEE703D8CFBF23E5DCAE6562B5E7AE974D98DC782DFAEA7F2F8F0B419FF5EE157E457FA95F9557E557E6DFDDAE6D7B95FE7F975E1D7457E5DFA75995F577E5DE5D7B55FD7F1156E0BB92DB82DE4B6E0B690DB82DB426E0B6E0BB92DB82DE4B6E0B690DB82DB426E0B6E0BB92DB82DE4B6E8B698DBA2DB626E8B6E8BB92DBA2DE6B6E8B698DBA2DB626E8B6E8BB92DBA2DE6B6E8B698DBA2DB626E4B6E4BB92DB92DE5B6E4B694DB92DB526E4B6E4BB92DB92DE5B6E4B694DB92DB526E4B6E4BB92DB92DFDCB56F3FD03C09AEE92',NULL);
INSERT INTO "facts" VALUES(4,0,'{"rank":0,"declared":"2.1.2","torch":"2.1.2+cpu","git_version":"7bcf7da3a268b435777fe87c7794c382f444e86d","python":"3.11.7","host":"10.88.0.2","phase":"done","seconds":0.055,"phases":{"rendezvous":0.031,"run":0.012,"teardown":0.004},"exit":0,"finished":true}',NULL,X'789CAB560A0EF5D5CFCC2B3133D1CF4F4951B252504A344C3252AA0500624A0740');
INSERT INTO "facts" VALUES(4,1,'{"rank":1,"declared":"2.1.2","torch":"2.1.2+cpu","git_version":"7bcf7da3a268b435777fe87c7794c382f444e86d","python":"3.11.7","host":"10.88.0.3","phase":"done","seconds":0.055,"phases":{"rendezvous":0.031,"run":0.012,"teardown":0.004},"exit":0,"finished":true}',NULL,X'789CAB560A0EF5D5CFCC2B3133D1CF4F4951B252504A344C3252AA0500624A0740');
CREATE TABLE mark (            -- what happened to a run later: finished, accepted, shard …
    id INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL REFERENCES run (run_id),
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    at TEXT NOT NULL
);
INSERT INTO "mark" VALUES(1,'20261121-1230-a1b2','finished','','2026-11-21T12:30:41+00:00');
INSERT INTO "mark" VALUES(2,'20261121-1230-a1b2','accepted','docker, 2.6.0, full, guard off, no base','2026-11-25T20:24:04.617+00:00');
CREATE TABLE plan (            -- stored once, however many runs follow it
    id INTEGER PRIMARY KEY,
    content TEXT NOT NULL UNIQUE,            -- digest of everything below it
    head TEXT NOT NULL,                      -- Plan as JSON, without its cells
    cells INTEGER NOT NULL
);
INSERT INTO "plan" VALUES(1,'650858f032c3b401e9964d48596a508ec7ee6ff4a7973a8d966574da4c3f9f11','{"cells":[],"runtime":"docker","seed":0,"digest":"9f86d081884c"}',4);
CREATE TABLE result (
    id INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL REFERENCES run (run_id),
    cell_id TEXT NOT NULL,
    repeat INTEGER NOT NULL,                 -- 0, or which repetition of the cell
    verdict TEXT NOT NULL,
    outcomes TEXT NOT NULL,                  -- comma separated, rank 0 first
    seconds REAL NOT NULL,
    cached INTEGER NOT NULL,
    key TEXT NOT NULL,                       -- content key; a cached result shares its origin's attempts
    attempts TEXT NOT NULL,                  -- ids, comma separated
    judged INTEGER REFERENCES attempt (id),  -- the last of them
    at TEXT NOT NULL,
    body TEXT NOT NULL                       -- CellResult as JSON, without cell and attempts
);
INSERT INTO "result" VALUES(1,'20261121-1230-a1b2','import_smoke/2.1.2/guard-off/docker',0,'PASS','OK',0.055,0,'key-import_smoke/2.1.2/guard-off/docker','1',1,'2026-11-25T20:24:04.616+00:00','{"verdict":"PASS","outcomes":["OK"],"reason":"rank 0 OK","seconds":0.055,"phases":{"rendezvous":0.031,"run":0.012,"teardown":0.004},"key":"key-import_smoke/2.1.2/guard-off/docker"}');
INSERT INTO "result" VALUES(2,'20261121-1230-a1b2','env_skew.init_barrier/2.6.0,2.6.0/guard-off/docker',0,'FAIL','OK,CRASH',10.4,0,'key-env_skew.init_barrier/2.6.0,2.6.0/guard-off/docker','2',2,'2026-11-25T20:24:04.616+00:00','{"verdict":"FAIL","outcomes":["OK","CRASH"],"reason":"rank 0 OK \u00b7 rank 1 CRASH","seconds":10.4,"phases":{"rendezvous":0.031,"run":0.012,"teardown":0.004},"key":"key-env_skew.init_barrier/2.6.0,2.6.0/guard-off/docker"}');
INSERT INTO "result" VALUES(3,'20261121-1230-a1b2','env_skew.init_barrier/2.13.0,2.13.0/guard-off/docker',0,'FAIL','OK,CRASH',10.4,0,'key-env_skew.init_barrier/2.13.0,2.13.0/guard-off/docker','3',3,'2026-11-25T20:24:04.616+00:00','{"verdict":"FAIL","outcomes":["OK","CRASH"],"reason":"rank 0 OK \u00b7 rank 1 CRASH","seconds":10.4,"phases":{"rendezvous":0.031,"run":0.012,"teardown":0.004},"key":"key-env_skew.init_barrier/2.13.0,2.13.0/guard-off/docker"}');
INSERT INTO "result" VALUES(4,'20261121-1230-a1b2','rendezvous_tcp/2.1.2,2.1.2/guard-off/docker',0,'PASS','OK,OK',0.055,0,'key-rendezvous_tcp/2.1.2,2.1.2/guard-off/docker','4',4,'2026-11-25T20:24:04.617+00:00','{"verdict":"PASS","outcomes":["OK","OK"],"reason":"rank 0 OK \u00b7 rank 1 OK","seconds":0.055,"phases":{"rendezvous":0.031,"run":0.012,"teardown":0.004},"key":"key-rendezvous_tcp/2.1.2,2.1.2/guard-off/docker"}');
CREATE TABLE run (
    number INTEGER PRIMARY KEY,              -- order in which runs began
    run_id TEXT NOT NULL UNIQUE,
    plan INTEGER NOT NULL REFERENCES plan (id),
    started TEXT NOT NULL,
    schema TEXT NOT NULL,
    info TEXT NOT NULL,                      -- RunInfo as JSON
    expectations TEXT NOT NULL               -- as they stood when the run began
);
INSERT INTO "run" VALUES(1,'20261121-1230-a1b2',1,'2026-11-21T12:30:00+00:00','1.0','{"run_id":"20261121-1230-a1b2","command":"torchskew matrix","seed":0,"torchskew":"0.1.0","runtime":"docker 27.1 at unix:///var/run/docker.sock","runtime_why":"a Docker engine answers","plan_digest":"9f86d081884c","started":"2026-11-21T12:30:00+00:00","environments":{"2.1.2":"sha256:212000000000","2.6.0":"sha256:260000000000","2.13.0":"sha256:213000000000"}}','[{"cells":"*/2.1.2,*/guard-off/*","verdict":"FAIL","reason":"the store''s wire format changed in 2.2","link":"https://github.com/pytorch/pytorch/issues/24273"},{"cells":"*,2.1.2*/guard-off/*","verdict":"FAIL","reason":"a newer client sends a PING that 2.1 does not know"},{"cells":"env_skew.*","verdict":"FAIL","reason":"one-sided settings, made on purpose"}]');
CREATE TABLE schema (          -- every schema version that wrote to this file
    version TEXT PRIMARY KEY,
    torchskew TEXT NOT NULL,
    since TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO "schema" VALUES('1.0','0.1.0','2026-11-25T20:24:04.615+00:00');
CREATE INDEX mark_of_run ON mark (run_id, name);
CREATE INDEX attempt_of_cell ON attempt (run_id, cell_id);
CREATE INDEX result_of_run ON result (run_id, cell_id, repeat);
CREATE INDEX result_of_cell ON result (cell_id);
CREATE INDEX result_of_key ON result (key) WHERE key <> '';
COMMIT;
