-- name: I4
-- for every run and step key there is at most one result
select run_id from well.steps group by run_id, step_id, occurrence having count(*) > 1
