-- A database as schema 0001 wrote it: two versions, an alias, weights, an image.
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE alias_history (
	id INTEGER NOT NULL, 
	model INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	version INTEGER, 
	at DATETIME NOT NULL, 
	actor TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	CONSTRAINT pk_alias_history PRIMARY KEY (id), 
	CONSTRAINT fk_alias_history_model FOREIGN KEY(model) REFERENCES models (id), 
	CONSTRAINT fk_alias_history_version FOREIGN KEY(version) REFERENCES versions (id)
);
INSERT INTO "alias_history" VALUES(1,1,'candidate',1,'2026-11-20 17:18:48.697909','mia','registered');
INSERT INTO "alias_history" VALUES(2,1,'champion',1,'2026-11-20 17:18:48.773033','airflow','');
CREATE TABLE aliases (
	model INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	version INTEGER NOT NULL, 
	CONSTRAINT pk_aliases PRIMARY KEY (model, name), 
	CONSTRAINT fk_aliases_model FOREIGN KEY(model) REFERENCES models (id), 
	CONSTRAINT fk_aliases_version FOREIGN KEY(version) REFERENCES versions (id)
);
INSERT INTO "aliases" VALUES(1,'candidate',1);
INSERT INTO "aliases" VALUES(1,'champion',1);
CREATE TABLE deployments (
	endpoint TEXT NOT NULL, 
	version INTEGER NOT NULL, 
	weight INTEGER NOT NULL, 
	since DATETIME NOT NULL, 
	CONSTRAINT pk_deployments PRIMARY KEY (endpoint, version), 
	CONSTRAINT ck_deployments_weight CHECK (weight BETWEEN 0 AND 100), 
	CONSTRAINT fk_deployments_version FOREIGN KEY(version) REFERENCES versions (id)
);
INSERT INTO "deployments" VALUES('digits',1,90,'2026-11-20 17:18:48.836367');
INSERT INTO "deployments" VALUES('digits',2,10,'2026-11-20 17:18:48.836367');
CREATE TABLE evaluation_metrics (
	evaluation INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	value DOUBLE, 
	flag TEXT, 
	CONSTRAINT pk_evaluation_metrics PRIMARY KEY (evaluation, name), 
	CONSTRAINT fk_evaluation_metrics_evaluation FOREIGN KEY(evaluation) REFERENCES evaluations (id)
);
INSERT INTO "evaluation_metrics" VALUES(1,'loss',0.5,NULL);
INSERT INTO "evaluation_metrics" VALUES(2,'loss',NULL,'NaN');
INSERT INTO "evaluation_metrics" VALUES(3,'loss',0.125,NULL);
INSERT INTO "evaluation_metrics" VALUES(3,'accuracy',0.97,NULL);
INSERT INTO "evaluation_metrics" VALUES(4,'loss',0.5,NULL);
INSERT INTO "evaluation_metrics" VALUES(5,'loss',NULL,'NaN');
INSERT INTO "evaluation_metrics" VALUES(6,'loss',0.125,NULL);
INSERT INTO "evaluation_metrics" VALUES(6,'accuracy',0.97,NULL);
CREATE TABLE evaluations (
	id INTEGER NOT NULL, 
	run INTEGER NOT NULL, 
	checkpoint TEXT NOT NULL, 
	digest TEXT, 
	stage TEXT, 
	step BIGINT, 
	note TEXT NOT NULL, 
	CONSTRAINT pk_evaluations PRIMARY KEY (id), 
	CONSTRAINT fk_evaluations_run FOREIGN KEY(run) REFERENCES runs (id), 
	CONSTRAINT uq_evaluations_run_checkpoint UNIQUE (run, checkpoint)
);
INSERT INTO "evaluations" VALUES(1,1,'coarse-1','sha256:d0f631ca1ddba8db3bcfcb9e057cdc98d0379f1bee00e75a545147a27dadd982','coarse',10,'');
INSERT INTO "evaluations" VALUES(2,1,'fine-2',NULL,'fine',20,'diverged');
INSERT INTO "evaluations" VALUES(3,1,'fine-3',NULL,'fine',30,'');
INSERT INTO "evaluations" VALUES(4,2,'coarse-1','sha256:d0f631ca1ddba8db3bcfcb9e057cdc98d0379f1bee00e75a545147a27dadd982','coarse',10,'');
INSERT INTO "evaluations" VALUES(5,2,'fine-2',NULL,'fine',20,'diverged');
INSERT INTO "evaluations" VALUES(6,2,'fine-3',NULL,'fine',30,'');
CREATE TABLE events (
	id INTEGER NOT NULL, 
	at DATETIME NOT NULL, 
	actor TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	model INTEGER, 
	version INTEGER, 
	run_id TEXT, 
	detail JSON NOT NULL, 
	CONSTRAINT pk_events PRIMARY KEY (id), 
	CONSTRAINT fk_events_model FOREIGN KEY(model) REFERENCES models (id), 
	CONSTRAINT fk_events_version FOREIGN KEY(version) REFERENCES versions (id)
);
INSERT INTO "events" VALUES(1,'2026-11-20 17:18:48.694964','mia','version-registered',1,1,'manual__1','{"number": 1, "archive": "sha256:0c3ab42d8bf783773c98f334be8a92d202000c54df2231d8bc6b679f0d6d2887", "checkpoint": "fine-3"}');
INSERT INTO "events" VALUES(2,'2026-11-20 17:18:48.697909','mia','alias-set',1,1,'manual__1','{"alias": "candidate", "reason": "registered"}');
INSERT INTO "events" VALUES(3,'2026-11-20 17:18:48.741992','mia','version-registered',1,2,'manual__2','{"number": 2, "archive": "sha256:9dd17c4a180ac1cc8e8b500bdcdacecced58d45e588b4d0d95037b7dfc4a70d0", "checkpoint": "fine-3"}');
INSERT INTO "events" VALUES(4,'2026-11-20 17:18:48.773033','airflow','alias-set',1,1,NULL,'{"alias": "champion", "reason": ""}');
INSERT INTO "events" VALUES(5,'2026-11-20 17:18:48.859897','airflow','weights-set',1,NULL,NULL,'{"endpoint": "digits", "weights": {"1": 90, "2": 10}}');
INSERT INTO "events" VALUES(6,'2026-11-20 17:18:48.943039','airflow','image-built',1,1,NULL,'{"builder": "oci", "digest": "sha256:6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d", "reference": "registry/digits"}');
CREATE TABLE files (
	digest TEXT NOT NULL, 
	size BIGINT NOT NULL, 
	CONSTRAINT pk_files PRIMARY KEY (digest)
);
INSERT INTO "files" VALUES('sha256:87e93f89f2be0db364e8be052f79f389e6c2da239831922e24513288af522a43',100);
INSERT INTO "files" VALUES('sha256:e1241fb009ce68e0cec5c19baedeff497e82ab3ea58223f77466983f36a81bb4',10);
INSERT INTO "files" VALUES('sha256:edd414c95acea1c273ab149255053a81db68153fdcdbf10a54a7fd84907d6f70',10);
CREATE TABLE images (
	id INTEGER NOT NULL, 
	version INTEGER NOT NULL, 
	builder TEXT NOT NULL, 
	digest TEXT NOT NULL, 
	reference TEXT NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_images PRIMARY KEY (id), 
	CONSTRAINT fk_images_version FOREIGN KEY(version) REFERENCES versions (id), 
	CONSTRAINT uq_images_version_builder_digest_reference UNIQUE (version, builder, digest, reference)
);
INSERT INTO "images" VALUES(1,1,'oci','sha256:6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d','registry/digits','2026-11-20 17:18:48.925645');
CREATE TABLE metrics (
	run INTEGER NOT NULL, 
	stage TEXT NOT NULL, 
	name TEXT NOT NULL, 
	steps JSON NOT NULL, 
	series JSON NOT NULL, 
	last_value DOUBLE, 
	last_flag TEXT, 
	CONSTRAINT pk_metrics PRIMARY KEY (run, stage, name), 
	CONSTRAINT fk_metrics_run FOREIGN KEY(run) REFERENCES runs (id)
);
INSERT INTO "metrics" VALUES(1,'fine','loss','[1, 2, 3]','[1.0, 0.5, 0.3333333333333333]',3.33333333333333314829e-01,NULL);
INSERT INTO "metrics" VALUES(2,'fine','loss','[1, 2, 3]','[1.0, 0.5, 0.3333333333333333]',3.33333333333333314829e-01,NULL);
CREATE TABLE models (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	description TEXT NOT NULL, 
	latest INTEGER NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_models PRIMARY KEY (id), 
	CONSTRAINT uq_models_name UNIQUE (name)
);
INSERT INTO "models" VALUES(1,'digits','handwritten digits',2,'2026-11-20 17:18:48.628766');
CREATE TABLE params (
	run INTEGER NOT NULL, 
	stage TEXT NOT NULL, 
	name TEXT NOT NULL, 
	value JSON NOT NULL, 
	CONSTRAINT pk_params PRIMARY KEY (run, stage, name), 
	CONSTRAINT fk_params_run FOREIGN KEY(run) REFERENCES runs (id)
);
INSERT INTO "params" VALUES(1,'coarse','lr',0.01);
INSERT INTO "params" VALUES(1,'coarse','layers','[8, 16]');
INSERT INTO "params" VALUES(1,'fine','lr',0.001);
INSERT INTO "params" VALUES(1,'fine','schedule','null');
INSERT INTO "params" VALUES(2,'coarse','lr',0.01);
INSERT INTO "params" VALUES(2,'coarse','layers','[8, 16]');
INSERT INTO "params" VALUES(2,'fine','lr',0.001);
INSERT INTO "params" VALUES(2,'fine','schedule','null');
CREATE TABLE rollouts (
	endpoint TEXT NOT NULL, 
	run_id TEXT NOT NULL, 
	version INTEGER NOT NULL, 
	state TEXT NOT NULL, 
	step INTEGER NOT NULL, 
	detail JSON NOT NULL, 
	started_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	CONSTRAINT pk_rollouts PRIMARY KEY (endpoint, run_id), 
	CONSTRAINT ck_rollouts_state CHECK (state IN ('running', 'done', 'aborted')), 
	CONSTRAINT fk_rollouts_version FOREIGN KEY(version) REFERENCES versions (id)
);
CREATE TABLE runs (
	id INTEGER NOT NULL, 
	model INTEGER NOT NULL, 
	dag_id TEXT NOT NULL, 
	run_id TEXT NOT NULL, 
	actor TEXT NOT NULL, 
	run_type TEXT NOT NULL, 
	started_at DATETIME, 
	code_digest TEXT, 
	commit_id TEXT, 
	branch TEXT, 
	dirty BOOLEAN, 
	spec JSON NOT NULL, 
	seed BIGINT, 
	CONSTRAINT pk_runs PRIMARY KEY (id), 
	CONSTRAINT fk_runs_model FOREIGN KEY(model) REFERENCES models (id), 
	CONSTRAINT uq_runs_model_dag_id_run_id UNIQUE (model, dag_id, run_id)
);
INSERT INTO "runs" VALUES(1,1,'digits','manual__1','mia','manual','2026-03-01 12:00:00.000000','sha256:5694d08a2e53ffcae0c3103e5ad6f6076abd960eb1f8a56577040bc1028f702b','c0ffee','main',1,'{"name": "digits", "train": {"backend": "local"}}',7);
INSERT INTO "runs" VALUES(2,1,'digits','manual__2','mia','manual','2026-03-01 12:00:00.000000','sha256:5694d08a2e53ffcae0c3103e5ad6f6076abd960eb1f8a56577040bc1028f702b','c0ffee','main',1,'{"name": "digits", "train": {"backend": "local"}}',7);
CREATE TABLE version_files (
	version INTEGER NOT NULL, 
	path TEXT NOT NULL, 
	digest TEXT NOT NULL, 
	role TEXT NOT NULL, 
	CONSTRAINT pk_version_files PRIMARY KEY (version, path), 
	CONSTRAINT fk_version_files_digest FOREIGN KEY(digest) REFERENCES files (digest), 
	CONSTRAINT fk_version_files_version FOREIGN KEY(version) REFERENCES versions (id)
);
INSERT INTO "version_files" VALUES(1,'model/model.onnx','sha256:87e93f89f2be0db364e8be052f79f389e6c2da239831922e24513288af522a43','model');
INSERT INTO "version_files" VALUES(1,'outputs/meta.yml','sha256:e1241fb009ce68e0cec5c19baedeff497e82ab3ea58223f77466983f36a81bb4','');
INSERT INTO "version_files" VALUES(2,'model/model.onnx','sha256:87e93f89f2be0db364e8be052f79f389e6c2da239831922e24513288af522a43','model');
INSERT INTO "version_files" VALUES(2,'outputs/meta.yml','sha256:edd414c95acea1c273ab149255053a81db68153fdcdbf10a54a7fd84907d6f70','');
CREATE TABLE version_metrics (
	version INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	value DOUBLE, 
	flag TEXT, 
	CONSTRAINT pk_version_metrics PRIMARY KEY (version, name), 
	CONSTRAINT fk_version_metrics_version FOREIGN KEY(version) REFERENCES versions (id)
);
INSERT INTO "version_metrics" VALUES(1,'loss',0.125,NULL);
INSERT INTO "version_metrics" VALUES(1,'accuracy',0.97,NULL);
INSERT INTO "version_metrics" VALUES(2,'loss',0.125,NULL);
INSERT INTO "version_metrics" VALUES(2,'accuracy',0.97,NULL);
CREATE TABLE versions (
	id INTEGER NOT NULL, 
	model INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	run INTEGER NOT NULL, 
	description TEXT NOT NULL, 
	archive_uri TEXT NOT NULL, 
	archive_digest TEXT NOT NULL, 
	archive_size BIGINT NOT NULL, 
	model_digest TEXT NOT NULL, 
	checkpoint TEXT NOT NULL, 
	checkpoint_digest TEXT NOT NULL, 
	created_at DATETIME NOT NULL, 
	created_by TEXT NOT NULL, 
	CONSTRAINT pk_versions PRIMARY KEY (id), 
	CONSTRAINT ck_versions_number CHECK (number >= 1), 
	CONSTRAINT fk_versions_model FOREIGN KEY(model) REFERENCES models (id), 
	CONSTRAINT fk_versions_run FOREIGN KEY(run) REFERENCES runs (id), 
	CONSTRAINT uq_versions_model_number UNIQUE (model, number), 
	CONSTRAINT uq_versions_run UNIQUE (run)
);
INSERT INTO "versions" VALUES(1,1,1,1,'handwritten digits','file:///artifacts/a.zip','sha256:0c3ab42d8bf783773c98f334be8a92d202000c54df2231d8bc6b679f0d6d2887',4321,'sha256:a453c6099159c052be31ff04cb1c5ca4703e44d4df7385561d5cbceaf31d590a','fine-3','sha256:f65bca66afda90bdcf45196d349bb2495bdc98a4e50fd2f13e81c2ccafa3523b','2026-11-20 17:18:48.628766','mia');
INSERT INTO "versions" VALUES(2,1,2,2,'handwritten digits','file:///artifacts/a.zip','sha256:9dd17c4a180ac1cc8e8b500bdcdacecced58d45e588b4d0d95037b7dfc4a70d0',4321,'sha256:b8f6468cf8d0641fe26ba6babc443e6587856483bf3f1123e7bdee62424fbe5c','fine-3','sha256:dcd206f7b43d06a94a8a1e8ee7699707eb7506b13736f40f6a6299464c80834a','2026-11-20 17:18:48.732026','mia');
CREATE TABLE weight_history (
	id INTEGER NOT NULL, 
	endpoint TEXT NOT NULL, 
	version INTEGER NOT NULL, 
	weight INTEGER NOT NULL, 
	at DATETIME NOT NULL, 
	actor TEXT NOT NULL, 
	run_id TEXT, 
	CONSTRAINT pk_weight_history PRIMARY KEY (id), 
	CONSTRAINT ck_weight_history_weight CHECK (weight BETWEEN 0 AND 100), 
	CONSTRAINT fk_weight_history_version FOREIGN KEY(version) REFERENCES versions (id)
);
INSERT INTO "weight_history" VALUES(1,'digits',1,90,'2026-11-20 17:18:48.836367','airflow',NULL);
INSERT INTO "weight_history" VALUES(2,'digits',2,10,'2026-11-20 17:18:48.836367','airflow',NULL);
CREATE INDEX ix_runs_code_digest ON runs (code_digest);
CREATE INDEX ix_runs_commit_id ON runs (commit_id);
CREATE INDEX ix_versions_archive_digest ON versions (archive_digest);
CREATE INDEX ix_versions_model_digest ON versions (model_digest);
CREATE INDEX ix_version_metrics_name_value ON version_metrics (name, value);
CREATE INDEX ix_version_files_digest ON version_files (digest);
CREATE INDEX ix_images_digest ON images (digest);
CREATE INDEX ix_aliases_version ON aliases (version);
CREATE INDEX ix_alias_history_model_name ON alias_history (model, name);
CREATE INDEX ix_alias_history_version ON alias_history (version);
CREATE INDEX ix_deployments_version ON deployments (version);
CREATE INDEX ix_weight_history_endpoint ON weight_history (endpoint);
CREATE INDEX ix_weight_history_version ON weight_history (version);
CREATE INDEX ix_rollouts_version ON rollouts (version);
CREATE INDEX ix_events_model_id ON events (model, id);
CREATE INDEX ix_events_version ON events (version);
CREATE TRIGGER versions_no_update BEFORE UPDATE ON versions BEGIN SELECT RAISE(ABORT, 'versions is append-only'); END;
CREATE TRIGGER alias_history_no_update BEFORE UPDATE ON alias_history BEGIN SELECT RAISE(ABORT, 'alias_history is append-only'); END;
CREATE TRIGGER weight_history_no_update BEFORE UPDATE ON weight_history BEGIN SELECT RAISE(ABORT, 'weight_history is append-only'); END;
CREATE TRIGGER events_no_update BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'events is append-only'); END;
CREATE TRIGGER events_no_delete BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'events is append-only'); END;
COMMIT;
