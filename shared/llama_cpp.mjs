// Runs a model in llama.cpp: node llama_cpp.mjs MODEL.gguf, with a job as JSON on standard input.
// job: {texts: [text, ...], special, greedy: [{ids, n}, ...], context}; the answer is JSON on standard output.
import fs from "fs";
import {createRequire} from "module";
import {pathToFileURL} from "url";

// The package lies in a folder of its own, which the caller names: node would look beside this file.
const require = createRequire(process.env.COURSE_LLAMA_CPP + "/");
const {getLlama} = await import(pathToFileURL(require.resolve("node-llama-cpp")));
const job = JSON.parse(fs.readFileSync(0, "utf8"));
const llama = await getLlama({gpu: false, build: "never", progressLogs: false, logLevel: "error"});
const model = await llama.loadModel({modelPath: process.argv[2]});
const answer = {tokens: (job.texts ?? []).map((text) => model.tokenize(text, job.special ?? false)), greedy: []};
for (const {ids, n} of job.greedy ?? []) {
    const context = await model.createContext({contextSize: job.context, threads: 1});
    const tokens = [];
    if (n > 0) {
        for await (const token of context.getSequence().evaluate(ids, {temperature: 0})) {
            tokens.push(token);
            if (tokens.length >= n) break;
        }
    }
    answer.greedy.push(tokens);
    await context.dispose();
}
fs.writeSync(1, JSON.stringify(answer));
process.exit(0);
